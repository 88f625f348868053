"""docs/results.md: what the page says of runs is what scikit-learn says of their predictions;
what is not there is told.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared_folder import days_of_sizes
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.results.grid import ASKED_FILE, DATA, GRID, ROWS_FILE, Grid, runs_of
from benchmarks.results.page import PAGE, write_page
from swrec_prod.errors import DataError
from swrec_prod.evaluate.predictions import predictions_table, write_predictions
from swrec_prod.layers.inputs import Dims, Field
from swrec_prod.models import build
from swrec_prod.statistics.paired import auc_difference
from swrec_prod.strict import load, parse

ROOT = Path(__file__).resolve().parents[1]
SCENARIOS = ("feed", "cart")
ROWS = 600
STRENGTH = {"shared_bottom": 0.5, "dnn": 0.5, "mmoe": 1.5, "star": 0.4, "star_thin": 0.4}
DAYS = {"split": "days", "days": {"train": "..2024-01-01", "valid": "2024-01-02", "test": "2024-01-03.."}}


def a_grid(**more: object) -> Grid:
    """One protocol with four variants and two seeds; more: further keys of it."""
    variants = {name: {"model": {"name": name}} for name in ("shared_bottom", "dnn", "mmoe", "star")}
    variants["star_thin"] = {"model": {"name": "star"}, "note": "with a narrow network"}
    protocol = {
        "title": "Toy",
        "data": DAYS,
        "seeds": 2,
        "variants": variants,
        "published": {"mmoe": 0.99, "dnn": 0.5, "star": 0.4},
    }
    source = {} if "simulate" in more else {"data_file": "toy.yaml"}
    return parse(Grid, {"protocols": {"toy": {**protocol, **source, **more}}}, "toy.yaml")


class Toy:
    """Runs that are finished, written as the command leaves them. logits: [N] by variant and seed."""

    def __init__(self, grid: Grid, left_out: tuple[tuple[str, int], ...] = ()) -> None:
        rng = np.random.default_rng(3)
        self.row = np.arange(ROWS) + 7
        self.users = rng.integers(0, 50, ROWS)
        self.scenario = rng.integers(0, 2, ROWS)
        self.interest = rng.normal(size=ROWS)
        self.labels = (rng.random(ROWS) < 1 / (1 + np.exp(-self.interest))).astype(float)
        self.logits = {}
        # seeds of a variant mostly err on the same rows
        of_variant = {name: rng.normal(size=ROWS) for name in STRENGTH}
        for run in runs_of(grid, ["toy"]):
            if (run.variant, run.seed) not in left_out:
                noise = of_variant[run.variant] + 0.3 * rng.normal(size=ROWS)
                self.logits[run.variant, run.seed] = (STRENGTH[run.variant] * self.labels + noise).astype(np.float32)
                self.write(run, self.logits[run.variant, run.seed])

    def write(self, run, logits: np.ndarray, scenario_logit: float | None = None) -> None:
        run.folder.mkdir(parents=True, exist_ok=True)
        split = {}
        if scenario_logit is not None:
            influence = np.where(self.scenario == 1, scenario_logit, 0.0)[:, None]
            split = {"interest_NT": logits[:, None] * (1 + np.exp(-influence)), "scenario_NT": influence, "c": 1.0}
        table = predictions_table(
            row=self.row,
            day=pa.array(["2024-01-03"] * ROWS),
            user=pa.array([f"u{u}" for u in self.users]),
            scenario=pa.array([SCENARIOS[s] for s in self.scenario]),
            labels_NT=self.labels[:, None],
            logit_NT=logits[:, None],
            tasks=("click",),
            **split,
        )
        write_predictions(table, run.folder / "predictions.parquet")
        run.config.save(run.folder / ASKED_FILE)
        (run.folder / ROWS_FILE).write_text(run.data)
        (run.folder / "metrics.json").write_text("{}")

    def both(self, variant: str) -> np.ndarray:
        return np.stack([self.logits[variant, seed] for seed in (1, 2)])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(page: str, first: str = "variant") -> list[dict[str, str]]:
    """The page's first table whose second column is not empty, as records by the names of its head."""
    lines = page[page.index(f"| {first} |") :].split("\n\n")[0].splitlines()
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines)
    return [dict(zip(head, row, strict=True)) for row in rows]


def number(cell: str) -> float:
    return float(cell.replace("−", "-").split(" ")[0])


def test_the_table_says_what_scikit_learn_says(here: Path) -> None:
    grid = a_grid()
    toy = Toy(grid)
    write_page(grid)
    found = rows_of(PAGE.read_text())
    assert {row["variant"].strip("`") for row in found} == set(grid.protocols["toy"].variants)
    assert [number(row["AUC"]) for row in found] == sorted((number(row["AUC"]) for row in found), reverse=True)
    for row in found:
        logits = toy.both(row["variant"].strip("`"))
        aucs = [roc_auc_score(toy.labels, seed) for seed in logits]
        assert row["seeds"] == "2"
        assert number(row["AUC"]) == pytest.approx(np.mean(aucs), abs=6e-5)
        assert number(row["sd"]) == pytest.approx(np.std(aucs, ddof=1), abs=6e-5)
        probabilities = 1 / (1 + np.exp(-logits.astype(float)))
        assert number(row["log loss"]) == pytest.approx(
            np.mean([log_loss(toy.labels, p) for p in probabilities]), abs=6e-5
        )
        for s, name in enumerate(SCENARIOS):
            mine = toy.scenario == s
            assert number(row[name]) == pytest.approx(
                np.mean([roc_auc_score(toy.labels[mine], z[mine]) for z in logits]), abs=6e-5
            )


def test_differences_are_paired_clustered_by_user_and_marked(here: Path) -> None:
    grid = a_grid()
    toy = Toy(grid)
    write_page(grid)
    page = PAGE.read_text()
    for row in rows_of(page):
        name = row["variant"].strip("`")
        for baseline in ("shared_bottom", "dnn"):
            cell = row[f"less {baseline}"]
            if name == baseline:
                assert cell == ""
                continue
            wanted = auc_difference(toy.labels, toy.both(name), toy.both(baseline), toy.users)
            value, half = re.findall(r"[\d.]+", cell.replace("−", ""))
            assert (float(value), float(half)) == pytest.approx(
                (abs(wanted.value), (wanted.high - wanted.low) / 2), abs=6e-5
            )
            assert ("−" in cell) == (wanted.value < 0)
    marked = {row["variant"] for row in rows_of(page) if "*" in row["less shared_bottom"]}
    assert marked == {"`mmoe`"}, "only one of the toy's models knows more than the baseline"
    assert re.search(
        r"Against `shared_bottom`, of 4 comparisons, significantly higher: "
        r"`mmoe` \(\+0\.\d{4}\); significantly lower: none",
        page,
    )


def test_published_figures_that_are_not_reached_are_told(here: Path) -> None:
    grid = a_grid(public_code={"mmoe": 0.1})
    toy = Toy(grid)
    write_page(grid)
    ours = np.mean([roc_auc_score(toy.labels, z) for z in toy.both("mmoe")])
    page = PAGE.read_text()
    assert (
        f"At or above the published AUC: 2 of 3. Below it: `mmoe` by {0.99 - ours:.4f} ({ours:.4f} against 0.9900)."
        in page
    )
    assert "At or above the AUC of the public code: 1 of 1." in page
    assert [row["published"] for row in rows_of(page) if row["variant"] == "`mmoe`"] == ["0.9900"]
    assert "- `star_thin`: with a narrow network" in page
    assert "| `star_thin` | `star` |" in page, "a variant whose name continues another's is compared with that one"


def test_runs_that_are_missing_are_told(here: Path) -> None:
    grid = a_grid()
    Toy(grid, left_out=(("star", 2), ("dnn", 1), ("dnn", 2)))
    write_page(grid)
    page = PAGE.read_text()
    assert "Not all runs are finished: `dnn` (0 of 2 seeds), `star` (1 of 2 seeds)." in page
    seeds = {row["variant"]: row["seeds"] for row in rows_of(page)}
    assert seeds == {"`shared_bottom`": "2", "`mmoe`": "2", "`star`": "1 of 2", "`star_thin`": "2"}
    assert "less dnn" not in page.partition("## Toy")[2]


def test_a_run_of_another_configuration_does_not_count(here: Path) -> None:
    Toy(a_grid())
    write_page(a_grid(train={"epochs": 9}))
    assert "No run is finished." in PAGE.read_text()


def test_runs_that_were_judged_by_other_rows_are_refused(here: Path) -> None:
    grid = a_grid()
    toy = Toy(grid)
    toy.row = toy.row + 1
    other = next(run for run in runs_of(grid, ["toy"]) if run.variant == "star")
    toy.write(other, toy.logits["star", 1])
    with pytest.raises(DataError, match=r"star/seed-1: judged by other test rows"):
        write_page(grid)


def test_rows_of_every_part_are_those_of_the_prepared_folder(here: Path) -> None:
    days_of_sizes(here / DATA / "toy", [30, 40, ROWS - 10, 10])
    for data, wanted in (
        (DAYS, "30 rows to train, 40 rows to validate, 600 to test"),
        ({"split": "random"}, "1 rows to train"),
    ):
        grid = a_grid(data=data)
        Toy(grid)
        write_page(grid)
        assert wanted in PAGE.read_text()


def test_many_scenarios_are_told_by_their_mean(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.results.page.MANY", 1)
    grid = a_grid()
    toy = Toy(grid)
    write_page(grid)
    row = next(row for row in rows_of(PAGE.read_text()) if row["variant"] == "`mmoe`")
    each = [
        [roc_auc_score(toy.labels[toy.scenario == s], z[toy.scenario == s]) for z in toy.both("mmoe")] for s in (0, 1)
    ]
    assert number(row["macro"]) == pytest.approx(np.mean(each), abs=6e-5)
    assert 0 < number(row["GAUC"]) < 1


def test_simulated_protocols_are_held_to_the_true_interest(here: Path) -> None:
    grid = a_grid(simulate={"days": 3})
    toy = Toy(grid)
    debiased = [run for run in runs_of(grid, ["toy"]) if run.variant == "mmoe"]
    for run in debiased:
        toy.write(run, toy.logits["mmoe", run.seed], scenario_logit=2.0)
    truth = here / DATA / "toy_log" / "truth" / "day=2024-01-03"
    truth.mkdir(parents=True)
    shuffled = np.random.default_rng(0).permutation(ROWS)
    pq.write_table(
        pa.table({"row": toy.row[shuffled], "interest": toy.interest[shuffled]}), truth / "part-00000.parquet"
    )
    write_page(grid)
    page = PAGE.read_text()
    chance = 1 / (1 + np.exp(-toy.interest))
    twice, weights = np.repeat([1, 0], ROWS), np.concatenate((chance, 1 - chance))

    def liked(score: np.ndarray) -> float:
        return roc_auc_score(twice, np.tile(score, 2), sample_weight=weights)

    table = {row["variant"]: row for row in rows_of(page[page.index("true interest") :])}
    for name, row in table.items():
        assert number(row["probability"]) == pytest.approx(
            np.mean([liked(z) for z in toy.both(name.strip("`"))]), abs=6e-5
        )
    factor = np.where(toy.scenario == 1, 1 / (1 + np.exp(-2.0)), 0.5)
    scores = {c: [z - c * factor for z in toy.both("mmoe")] for c in (0, 1, 4)}  # sigmoid(y_s) (y_m - c)
    wanted = np.mean([liked(score) for score in scores[1]])
    assert number(table["`mmoe`"]["ranking score"]) == pytest.approx(wanted, abs=6e-5)
    assert table["`dnn`"]["ranking score"] == "", "no causal split, so that the probability is what ranks"
    assert "Ranking score against probability, of 1 comparison, " in page
    swept = rows_of(page[page.index("other strengths c") :])[0]
    clicks = rows_of(page[page.index("against clicks") :])[0]
    for c, title in ((0, "c = 0"), (1, "c = 1"), (4, "c = 4")):
        assert number(swept[title]) == pytest.approx(np.mean([liked(score) for score in scores[c]]), abs=6e-5)
        assert number(clicks[title]) == pytest.approx(
            np.mean([roc_auc_score(toy.labels, score) for score in scores[c]]), abs=6e-5
        )


def test_every_variant_of_the_grid_can_be_built() -> None:
    fields = tuple(Field(side, 4 * at, 4, side, "id") for at, side in enumerate(("user", "item", "context")))
    dims = Dims(12, num_scenarios=4, item=4, fields=fields, user="user", target="item")
    for protocol in load(Grid, ROOT / GRID).protocols.values():
        for variant in protocol.variants.values():
            options = dict(variant.model)
            # raises ConfigError for an option that the model does not have
            model = build(options.pop("name"), options, dims)
            assert model.training and any(True for _ in model.parameters())


def test_the_page_names_variants_of_the_grid_only() -> None:
    page = ROOT / PAGE
    if not page.is_file():
        pytest.skip(f"{PAGE} is not written yet")
    protocols = {protocol.title: protocol for protocol in load(Grid, ROOT / GRID).protocols.values()}
    sections = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:]
    assert {section.splitlines()[0] for section in sections} == set(protocols)
    for section in sections:
        named = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
        assert named <= set(protocols[section.splitlines()[0]].variants)
