"""Two real processes train what one does: the same steps, the same weights, each other's checkpoints;
and fail together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from prepared_folder import rows_table, write_prepared
from ranks import fit_of, tensors_of, train_epochs
from runs import config_of, run_file, torchrun

from swrec_prod.checkpoint import latest, load_weights, read_state
from swrec_prod.config import RunConfig, TrainConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.evaluate.predict import score_rows
from swrec_prod.metrics.probabilities import logloss
from swrec_prod.metrics.ranks import auc
from swrec_prod.ranker import build_ranker, resolve_run
from swrec_prod.train.distributed import Ranks, process_group, seed_masks
from swrec_prod.train.loop import FitState
from swrec_prod.train.shard import replicated_tables

CASES = ("shared_bottom", "mscan", "weighted")  # of every one: the same whatever the ranks
# every rank has masks of its own
NORM = {"name": "shared_bottom", "norm": "batch", "tower_norm": "batch", "dropout": 0.2}
RANKS_PY = Path(__file__).with_name("ranks.py")

# The second rank fails after two batches, as with a damaged file of its own.
FAILS_ON_ONE_RANK = """
import os
from swrec_prod.cli import main
from swrec_prod.data.reader import Reader
from swrec_prod.errors import DataError

def batch(self, window, picked, position, make=Reader._batch):
    if os.environ["RANK"] == "1" and position.rows > 1000:
        raise DataError("day=2000-11-25/part-00000.parquet: 7 bytes, expected 9")
    return make(self, window, picked, position)

Reader._batch = batch
main()
"""


@pytest.fixture(scope="module")
def configs(prepared_genre: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], RunConfig]:
    """By case and ranks, with the same batches whatever the ranks: so many rows a step, which the ranks share unevenly.

    Every table is placed on a rank for shared_bottom; for mscan the smaller ones are on both.
    """
    weighted = write_prepared(tmp_path_factory.mktemp("weighted") / "data", [rows_table(900)])
    configs = {}
    for n in (1, 2):
        configs["shared_bottom", n] = config_of(prepared_genre, "shared_bottom", batch_size=500 // n, replicate_kib=0)
        configs["mscan", n] = config_of(prepared_genre, "mscan", batch_size=500 // n, replicate_kib=2)
        configs["weighted", n] = config_of(weighted, "mscan", batch_size=60 // n, replicate_kib=0)
        configs["norm", n] = config_of(prepared_genre, more={"model": NORM}, batch_size=500 // n)
    return configs


@pytest.fixture(scope="module")
def trained(configs: dict[tuple[str, int], RunConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FOLDER/CASE/ one, two: two epochs by so many ranks; one_two, two_one: the second epoch by the others."""
    folder = tmp_path_factory.mktemp("ranks")
    jobs = [job(configs["norm", 2], folder / "norm" / "two", epochs=2)]
    for case in CASES:
        with process_group(1) as ranks:
            train_epochs(configs[case, 1], ranks, folder / case / "one", epochs=2)
        jobs.append(job(configs[case, 2], folder / case / "two", epochs=2))
        jobs.append(job(configs[case, 2], folder / case / "one_two", begin=first_of(folder / case / "one")))
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = torchrun(RANKS_PY, folder / "jobs.json")
    assert done.returncode == 0, done.stderr[-3000:]
    for case in CASES:
        with process_group(1) as ranks:
            train_epochs(configs[case, 1], ranks, folder / case / "two_one", first_of(folder / case / "two"))
    return folder


def job(config: RunConfig, out: Path, begin: Path | None = None, epochs: int = 1) -> dict[str, Any]:
    return {
        "config": config.model_dump(mode="json", exclude_unset=True),
        "begin": str(begin) if begin else None,
        "epochs": epochs,
        "out": str(out),
    }


def first_of(folder: Path) -> Path:
    return min(folder.glob("step-*"))


def end_of(folder: Path) -> Path:
    found = latest(folder)
    assert found is not None
    return found


def fit_state(folder: Path) -> dict[str, Any]:
    return read_state(end_of(folder))["fit"]


def held_by(folder: Path, rank: int) -> dict[str, Any]:
    return torch.load(folder / f"rank-{rank}.pt")


@pytest.mark.process
@pytest.mark.parametrize("case", CASES)
def test_the_tables_were_really_spread_over_the_ranks(
    trained: Path, configs: dict[tuple[str, int], RunConfig], case: str
) -> None:
    one, two = (held_by(trained / case / "two", rank)["tables"] for rank in (0, 1))
    sparse = build_ranker(resolve_run(Catalog.open(configs[case, 1].data.path).schema, configs[case, 1])).sparse
    assert len(one) == len(list(sparse.parameters())) - len(replicated_tables(sparse, configs[case, 1].train))
    for name, (size, parts) in one.items():
        rows = sum(part[0] * part[1] for part in [*parts, *two[name][1]])
        assert rows == size[0] * size[1], f"{name}: every row is on exactly one rank"
    assert any(parts for _, parts in one.values()) and any(parts for _, parts in two.values()), (
        "no rank is without a table"
    )
    assert all(parts == [size] for size, parts in held_by(trained / case / "one", 0)["tables"].values())


def test_only_tiny_tables_are_on_every_rank_unless_told_otherwise(configs: dict[tuple[str, int], RunConfig]) -> None:
    config = configs["shared_bottom", 1]
    schema = Catalog.open(config.data.path).schema
    grown = {"movie_id": 100_000}
    features = tuple(f.model_copy(update={"rows": grown.get(f.name, f.rows)}) for f in schema.features)
    sparse = build_ranker(resolve_run(schema.model_copy(update={"features": features}), config)).sparse
    tables = {table.name for table in sparse.ebc.embedding_bag_configs()}
    assert replicated_tables(sparse, TrainConfig()) == tables - {"t_movie_id"}
    assert replicated_tables(sparse, TrainConfig(replicate_kib=0)) == set()


@pytest.mark.process
def test_ranks_end_with_the_same_buffers(trained: Path) -> None:
    one, two = (held_by(trained / "norm" / "two", rank)["buffers"] for rank in (0, 1))
    assert one.keys() == two.keys() and {name.split(".")[-1] for name in one} >= {
        "running_mean",
        "running_var",
        "mean",
        "var",
    }
    for name, buffer in one.items():
        torch.testing.assert_close(two[name], buffer, atol=0, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.process
def test_a_checkpoint_scores_as_the_ranks_validated(trained: Path, configs: dict[tuple[str, int], RunConfig]) -> None:
    config, path = configs["norm", 1], end_of(trained / "norm" / "two")
    catalog = Catalog.open(config.data.path)
    ranker = build_ranker(resolve_run(catalog.schema, config))
    load_weights(path, ranker)
    with process_group(1) as ranks:
        scored = score_rows(ranker, fit_of(catalog, config, ranks, FitState()).valid.epoch(0))
    found, labels, logits = read_state(path)["fit"]["history"][-1], scored["labels"][:, 0], scored["logit"][:, 0]
    assert found["valid_logloss"] == pytest.approx(logloss(labels, logits), abs=1e-6)
    assert found["valid_auc"] == pytest.approx(auc(labels, logits), abs=1e-4)


def test_masks_depend_on_seed_step_and_rank_alone() -> None:
    def drawn(seed: int, step: int, rank: int) -> tuple[float, ...]:
        seed_masks(seed, step, Ranks(rank, 2, 2, torch.device("cpu")))
        return tuple(torch.rand(4).tolist())

    places = [(seed, step, rank) for seed in (0, 1) for step in (0, 1, 7) for rank in (0, 1)]
    assert len({drawn(*place) for place in places}) == len(places)
    assert drawn(1, 7, 1) == drawn(1, 7, 1)


@pytest.mark.parametrize(("threads", "told", "expected"), [(3, "2", 3), (0, "2", 2), (0, None, 4), (0, "many", 4)])
def test_threads_are_the_runs_or_the_environments_or_a_part_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, threads: int, told: str | None, expected: int
) -> None:
    monkeypatch.setattr("swrec_prod.train.distributed._cores", lambda: 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.delenv("OMP_NUM_THREADS") if told is None else monkeypatch.setenv("OMP_NUM_THREADS", told)
    before = torch.get_num_threads()
    try:
        with process_group(threads):
            assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


@pytest.mark.process
@pytest.mark.parametrize("case", CASES)
def test_an_epoch_of_two_ranks_is_an_epoch_of_one(
    trained: Path, configs: dict[tuple[str, int], RunConfig], case: str
) -> None:
    expected, found = (
        tensors_of(configs[case, 1], min((trained / case / name).glob("step-*"))) for name in ("one", "two")
    )
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.process
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("other", ["two", "one_two", "two_one"])
def test_any_ranks_come_to_the_same_weights_and_optimiser_state(
    trained: Path, configs: dict[tuple[str, int], RunConfig], case: str, other: str
) -> None:
    expected, found = (tensors_of(configs[case, 1], end_of(trained / case / name)) for name in ("one", other))
    assert expected.keys() == found.keys()
    # a sum in another order may turn a near tie of co-attention's best matches
    atol = 3e-4 if case == "mscan" else 1e-5
    assert all(any(state in name for name in expected) for state in ("exp_avg_sq", "momentum1")), sorted(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, atol=atol, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.process
@pytest.mark.parametrize(
    ("case", "steps", "rows"), [("shared_bottom", 16, 2 * 3622), ("mscan", 16, 2 * 3622), ("weighted", 18, 1050)]
)
def test_any_ranks_validate_alike(trained: Path, case: str, steps: int, rows: int) -> None:
    expected = fit_state(trained / case / "one")
    assert (expected["step"], expected["epoch"], expected["rows"]) == (steps, 2, rows)
    for other in ("two", "one_two", "two_one"):
        found = fit_state(trained / case / other)
        assert all(found[name] == expected[name] for name in ("step", "epoch", "rows", "best_step")), other
        for one, two in zip(expected["history"], found["history"], strict=True):
            assert two["valid_auc"] == pytest.approx(one["valid_auc"], abs=1e-3)  # a near tie of two rows may turn
            assert two["valid_logloss"] == pytest.approx(one["valid_logloss"], abs=1e-5)


@pytest.mark.process
def test_an_error_of_one_rank_ends_all_of_them(prepared_genre: Path, tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text(FAILS_ON_ONE_RANK)
    file = run_file(tmp_path, config_of(prepared_genre, batch_size=250))
    # gloo alone waits for half an hour
    ended = torchrun(tmp_path / "fails.py", "train", file, "--out", tmp_path / "run", timeout=60)
    assert ended.returncode == 1
    lines = [line for line in ended.stderr.splitlines() if line.startswith("DataError: ")]
    assert lines == ["DataError: day=2000-11-25/part-00000.parquet: 7 bytes, expected 9"]
    assert "exitcode  : 2 " in ended.stderr, "torchrun names the exit code of what the user can mend"
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_one_process_is_a_group_of_its_own() -> None:
    with process_group(1) as ranks:
        assert (ranks.rank, ranks.world_size, ranks.is_main) == (0, 1, True)
        assert ranks.to_all("mine") == ranks.exchange(["mine"]) == ["mine"]
