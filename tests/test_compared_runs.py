"""Which runs are seeds of one variant and what it is called; what cannot be compared is said in a line."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finished_runs import World, by_name

from swrec_prod.compare.comparison import compare_runs
from swrec_prod.compare.text import comparison_json
from swrec_prod.config import RunConfig
from swrec_prod.errors import CheckpointError, ConfigError, DataError, MetricError, SingleClassError
from swrec_prod.evaluate.predictions import write_predictions
from swrec_prod.pages.run_page import read_run


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Test rows and no runs yet."""
    return World(tmp_path)


# Which runs are one variant, and what it is called


@pytest.mark.parametrize(
    ("runs", "wanted"),
    [
        (("dnn/seed-1", "dnn/seed-2", "star/seed-1"), {"dnn": [1, 2], "star": [1]}),
        (("dnn/first", "star/first"), {"dnn/first": [1], "star/first": [1]}),
        (("dnn/a", "dnn/b"), {"dnn": [1, 2]}),
        (("dnn/a", "star/a", "dnn/b"), {"dnn": [1, 2], "a": [1]}),
        (("all/dnn1", "all/dnn2", "all/star"), {"dnn1": [1, 2], "star": [1]}),
    ],
)
def test_runs_that_differ_in_their_seed_are_one_variant(
    world: World, runs: tuple[str, ...], wanted: dict[str, list[int]]
) -> None:
    seen: dict[str, int] = {}
    for path in runs:
        model = "dnn" if "dnn" in path else "star"
        seen[model] = seen.get(model, 0) + 1
        world.run(path, seed=seen[model], model=model)
    record = comparison_json(compare_runs([world / path for path in runs]))
    assert {variant["name"]: variant["seeds"] for variant in record["variants"]} == wanted
    assert record["baseline"] == next(iter(wanted))
    runs_of = [str(run) for variant in record["variants"] for run in variant["runs"]]
    assert sorted(runs_of) == sorted(world / path for path in runs)


def test_a_name_can_be_given_and_others_give_way(world: World) -> None:
    for path, model in (("a/dnn", "dnn"), ("b/dnn", "star"), ("b/x=y", "mmoe")):
        world.run(path, model=model)
    words = [f"dnn={world / 'a/dnn'}", world / "b/dnn", world / "b/x=y"]
    record = comparison_json(compare_runs(words, baseline="b/dnn"))
    assert [variant["name"] for variant in record["variants"]] == ["dnn", "b/dnn", "x=y"]
    assert record["baseline"] == "b/dnn" and by_name(record)["b/dnn"]["difference"] is None
    assert by_name(record)["dnn"]["settings"] == {"model.name": "dnn"}, "only what the variants differ in"


def test_what_changes_no_probability_makes_no_variant(world: World) -> None:
    """c of each seed may have been fitted, and quantize is of the package alone."""
    for seed, c in ((1, 0.3), (2, 0.7)):
        out = world.run(f"mscan/{seed}", seed=seed, model="mscan")
        config = RunConfig.load(
            out / "run.yaml", [f"debias={{c: {c}}}", f"export.quantize={'int8' if c > 0.5 else 'none'}"]
        )
        config.save(out / "run.yaml")
    record = comparison_json(compare_runs([world / "mscan/1", world / "mscan/2"]))
    assert [(v["name"], v["seeds"]) for v in record["variants"]] == [("mscan", [1, 2])]


def test_a_run_given_twice_counts_once_and_a_repeated_seed_is_a_variant(world: World) -> None:
    world.run("dnn/one")
    shutil.copytree(world / "dnn/one", world / "dnn/again")
    record = comparison_json(compare_runs([world / "dnn/one", world / "dnn/../dnn/one", world / "dnn/again"]))
    assert [(v["name"], v["seeds"]) for v in record["variants"]] == [("one", [1]), ("again", [1])]
    again = record["variants"][1]["difference"]
    assert again == {"value": 0, "error": 0, "low": 0, "high": 0, "p": 1, "significant": False}


# What cannot be compared


def test_other_rows_are_refused_with_both_runs_and_how_many(world: World) -> None:
    dnn, star = world.run("dnn"), world.run("star")
    world.write(star, world.logits[star], row=np.where(np.arange(900) < 10, world.row + 10_000, world.row))
    said = f"{star}: judged by other test rows than {dnn}: 900 and 900 rows, of which 20 are in one of them only; "
    with pytest.raises(DataError, match=re.escape(said) + ".*swrec evaluate RUN_DIR --days"):
        compare_runs([str(dnn), str(star)])
    world.write(star, world.logits[star], order=np.arange(850))
    with pytest.raises(DataError, match="850 and 900 rows, of which 50 are in one of them only"):
        compare_runs([str(dnn), str(star)])
    world.write(star, world.logits[star], labels=np.where(np.arange(900) < 7, 1 - world.labels, world.labels))
    with pytest.raises(DataError, match=r"star: judged by other .*dnn: 7 of 900 rows have another click; "):
        compare_runs([str(dnn), str(star)])
    table = pq.read_table(star / "predictions.parquet")
    other = [name.replace("click", "like") for name in table.column_names]
    write_predictions(table.rename_columns(other), star / "predictions.parquet")
    with pytest.raises(DataError, match=r"star: judged by other .*dnn: it has no click, only like; "):
        compare_runs([str(dnn), str(star)])


def test_a_run_that_is_none_or_unfinished_is_named(world: World) -> None:
    dnn, star = world.run("dnn"), world.run("star")
    with pytest.raises(CheckpointError, match="nothing: not a run directory: no such folder"):
        compare_runs([str(dnn), world / "nothing"])
    (star / "metrics.json").unlink()
    with pytest.raises(CheckpointError, match="star: training has not finished"):
        compare_runs([str(dnn), str(star)])
    (star / "metrics.json").write_text("{}")
    (star / "predictions.parquet").unlink()
    with pytest.raises(DataError, match=r"star/predictions.parquet: no such predictions file; `swrec evaluate"):
        compare_runs([str(dnn), str(star)])
    (star / "predictions.parquet").write_bytes(b"noise")
    with pytest.raises(DataError, match=r"star/predictions.parquet: not a Parquet file"):
        compare_runs([str(dnn), str(star)])
    (star / "run.yaml").write_text("model: [")
    with pytest.raises(ConfigError, match=r"star/run.yaml: not valid YAML"):
        compare_runs([str(dnn), str(star)])


def test_scores_that_are_no_numbers_are_named(world: World) -> None:
    dnn, star = world.run("dnn"), world.run("star")
    world.write(star, np.where(np.arange(900) < 3, np.nan, world.logits[star]))
    with pytest.raises(DataError, match=r"star/predictions.parquet: 3 of 900 scores of click are not finite numbers"):
        compare_runs([str(dnn), str(star)])


def test_rows_that_no_difference_can_be_had_of_are_named(world: World) -> None:
    world.labels[:] = 1
    dnn = world.run("dnn")
    with pytest.raises(SingleClassError, match=r"dnn: test rows: all 900 labels are 1"):
        compare_runs([str(dnn)])
    world.labels[:450] = 0
    world.users[:450] = 1
    world.write(dnn, world.logits[dnn])
    with pytest.raises(MetricError, match=r"dnn: test rows: .* two clusters with rows of each class, .* 1 negative"):
        compare_runs([str(dnn)])
    world.write(dnn, world.logits[dnn], order=np.arange(0))
    with pytest.raises(DataError, match=r"dnn/predictions.parquet: no rows to compare runs by"):
        compare_runs([str(dnn)])


def test_wrong_names_are_refused(world: World) -> None:
    dnn, star, again = world.run("dnn"), world.run("star"), world.run("again", model="dnn")
    with pytest.raises(ConfigError, match=r"--baseline str: no such variant; did you mean star\?"):
        compare_runs([str(dnn), str(star)], baseline="str")
    with pytest.raises(ConfigError, match=rf"x: {star} has model.name 'star', but {dnn} 'dnn'; runs of one name"):
        compare_runs([f"x={dnn}", f"x={star}"])
    with pytest.raises(ConfigError, match=rf"x: {again} has seed 1, as {dnn} has; runs of one name are seeds"):
        compare_runs([f"x={dnn}", f"x={again}"])
    for word in ("=build/runs/dnn", "dnn="):
        with pytest.raises(ConfigError, match=f"'{word}': give RUN_DIR, or NAME=RUN_DIR"):
            compare_runs([word])


def test_a_folder_of_parts_is_compared_and_shown_as_a_file_is(world: World) -> None:
    runs = [world.run("star"), world.run("dnn", quality=0.9)]
    for run in runs:
        write_predictions(pq.read_table(run / "predictions.parquet").sort_by("row"), run / "predictions.parquet")
    expected = comparison_json(compare_runs(list(map(str, runs))))
    for run in runs:
        path = run / "predictions.parquet"
        table, parts = pq.read_table(path), np.arange(len(world.row)) % 3
        path.unlink()
        path.mkdir()
        for part in range(3):
            pq.write_table(table.filter(pa.array(parts == part)), path / f"part-0000{part}.parquet")
    assert comparison_json(compare_runs(list(map(str, runs)))) == expected
    shown = read_run(runs[0]).predictions
    assert shown is not None and shown["row"].to_pylist() == sorted(world.row.tolist())
