"""`swrec compare`: figures against scikit-learn, intervals against a bootstrap of users, marks against the definition;
what is written and printed says the same.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import succeeds
from finished_runs import SCENARIOS, World, by_name
from runs import config_of, metrics_of_run
from sklearn.metrics import log_loss, roc_auc_score

from swrec_prod.cli import main
from swrec_prod.compare.comparison import STRENGTHS, compare_runs
from swrec_prod.compare.text import comparison_json, comparison_markdown, print_comparison
from swrec_prod.evaluate.predictions import write_predictions
from swrec_prod.pages.compare_page import write_comparison
from swrec_prod.statistics.paired import auc_difference
from swrec_prod.train.run import train

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Test rows and no runs yet."""
    return World(tmp_path)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, dict[str, Any]]:
    """dnn and star of two seeds, mmoe of one that knows far more, and compare.json of them."""
    world = World(tmp_path_factory.mktemp("compared"))
    for path, quality, seed in (
        ("dnn/seed-1", 0.5, 1),
        ("dnn/seed-2", 0.5, 2),
        ("mmoe", 2.5, 1),
        ("star/seed-1", 0.6, 1),
        ("star/seed-2", 0.6, 2),
    ):
        world.run(path, quality, seed)
    return world, comparison_json(compare_runs([str(path) for path in world.logits]))


RUNS = {"dnn": ("dnn/seed-1", "dnn/seed-2"), "mmoe": ("mmoe",), "star": ("star/seed-1", "star/seed-2")}


# Figures


def test_figures_are_those_of_scikit_learn(compared: tuple[World, dict[str, Any]]) -> None:
    world, record = compared
    assert (record["task"], record["baseline"], record["rows"]) == ("click", "dnn", 900)
    assert record["positives"] == world.labels.sum() and record["users"] == len(set(world.users))
    for name, variant in by_name(record).items():
        logits = world.of(*RUNS[name])
        aucs = [roc_auc_score(world.labels, z) for z in logits]
        assert variant["auc"]["value"] == pytest.approx(np.mean(aucs), abs=1e-12)
        assert variant["auc"]["low"] < variant["auc"]["value"] < variant["auc"]["high"]
        assert variant["auc_sd"] == (pytest.approx(np.std(aucs, ddof=1)) if len(aucs) > 1 else None)
        losses = [log_loss(world.labels, 1 / (1 + np.exp(-z))) for z in logits]
        assert variant["logloss"] == pytest.approx(np.mean(losses), abs=1e-9)
        inside = []
        for s, scenario in enumerate(SCENARIOS):
            mine = world.scenario == s
            inside.append(np.mean([roc_auc_score(world.labels[mine], z[mine]) for z in logits]))
            assert variant["scenarios"][scenario]["auc"] == pytest.approx(inside[-1], abs=1e-12)
            assert record["scenarios"][scenario] == {"rows": mine.sum(), "positives": world.labels[mine].sum()}
        assert variant["macro_auc"] == pytest.approx(np.mean(inside), abs=1e-12)
        assert variant["gauc"] == pytest.approx(np.mean([gauc(world, z) for z in logits]), abs=1e-12)


def gauc(world: World, logits: np.ndarray) -> float:
    rows, total = 0, 0.0
    for user in set(world.users):
        mine = world.users == user
        if 0 < world.labels[mine].sum() < mine.sum():
            rows, total = rows + mine.sum(), total + mine.sum() * roc_auc_score(world.labels[mine], logits[mine])
    return total / rows


def test_differences_are_paired_and_clustered_by_user(compared: tuple[World, dict[str, Any]]) -> None:
    world, record = compared
    variants = by_name(record)
    assert variants["dnn"]["difference"] is None and variants["mmoe"]["difference"]["significant"]
    for name in ("mmoe", "star"):
        wanted = auc_difference(world.labels, world.of(*RUNS[name]), world.of(*RUNS["dnn"]), world.users)
        difference = variants[name]["difference"]
        assert {key: difference[key] for key in wanted._fields} == pytest.approx(wanted._asdict())
        for s, scenario in enumerate(SCENARIOS):
            at = world.scenario == s
            sides = (world.of(*RUNS[name])[:, at], world.of(*RUNS["dnn"])[:, at])
            wanted = auc_difference(world.labels[at], *sides, world.users[at])
            difference = variants[name]["scenarios"][scenario]["difference"]
            assert {key: difference[key] for key in wanted._fields} == pytest.approx(wanted._asdict())


def test_the_error_of_a_difference_is_that_of_a_bootstrap_of_users(world: World) -> None:
    world.run("dnn")
    world.run("mmoe", 0.8)
    difference = by_name(comparison_json(compare_runs([world / "dnn", world / "mmoe"])))["mmoe"]["difference"]
    rows_of = [np.flatnonzero(world.users == user) for user in np.unique(world.users)]
    a, b = world.of("mmoe")[0], world.of("dnn")[0]
    again = []
    for _ in range(400):
        rows = np.concatenate([rows_of[k] for k in world.draw.integers(0, len(rows_of), len(rows_of))])
        labels = world.labels[rows]
        again.append(roc_auc_score(labels, a[rows]) - roc_auc_score(labels, b[rows]))
    assert difference["value"] == pytest.approx(roc_auc_score(world.labels, a) - roc_auc_score(world.labels, b))
    assert difference["error"] == pytest.approx(np.std(again), rel=0.15)


def test_marks_hold_the_rate_of_false_ones_in_each_family(world: World) -> None:
    """Benjamini & Hochberg's step-up by hand; the scenarios' differences are a family of their own."""
    for i, model in enumerate(("dnn", "mmoe", "star", "ple", "epnet", "ppnet", "m2m")):
        world.run(model, 0.5 + 0.07 * i)
    record = comparison_json(compare_runs([str(path) for path in world.logits]))
    overall = [variant["difference"] for variant in record["variants"][1:]]
    inside = [scenario["difference"] for v in record["variants"][1:] for scenario in v["scenarios"].values()]
    for family in (overall, inside):
        p = np.sort([difference["p"] for difference in family])
        held = p[p <= 0.05 * np.arange(1, len(p) + 1) / len(p)]
        for difference in family:
            assert difference["significant"] == (len(held) > 0 and difference["p"] <= held[-1])
        assert 0 < sum(difference["significant"] for difference in family) < len(family)
    alone = [difference for difference in inside if difference["p"] <= 0.05]
    assert not all(difference["significant"] for difference in alone), "alone, more would be significant"


def test_the_causal_split_is_ranked_by_several_c(world: World) -> None:
    world.run("dnn")
    logits = world.run("mscan", 1.0) and world.of("mscan")[0]
    influence = np.array([-1.0, 0.5, 1.5])[world.scenario]
    factor = 1 / (1 + np.exp(-influence))
    table = pq.read_table(world / "mscan/predictions.parquet")
    for name, column in (("interest_logit", logits / factor), ("scenario_logit", influence)):
        table = table.append_column(name, pa.array(column.astype(np.float32)))
    write_predictions(table, world / "mscan/predictions.parquet")
    variants = by_name(comparison_json(compare_runs([world / "dnn", world / "mscan"])))
    assert variants["dnn"]["strengths"] is None
    assert variants["mscan"]["auc"]["value"] == pytest.approx(roc_auc_score(world.labels, logits), abs=1e-6)
    assert [float(c) for c in variants["mscan"]["strengths"]] == list(STRENGTHS)
    for c, value in variants["mscan"]["strengths"].items():
        wanted = roc_auc_score(world.labels, logits - float(c) * factor)  # sigmoid(y_s) (y_m - c)
        assert value == pytest.approx(wanted, abs=1e-6)


def test_the_order_of_rows_in_a_file_does_not_matter(world: World) -> None:
    world.run("dnn")
    mmoe = world.run("mmoe", 1.0)
    before = comparison_json(compare_runs([world / "dnn", world / "mmoe"]))
    world.write(mmoe, world.logits[mmoe], order=world.draw.permutation(len(world.row)))
    after = comparison_json(compare_runs([world / "dnn", world / "mmoe"]))
    assert by_name(after)["mmoe"]["auc"] == pytest.approx(by_name(before)["mmoe"]["auc"])
    assert by_name(after)["mmoe"]["difference"] == pytest.approx(by_name(before)["mmoe"]["difference"])


def test_a_scenario_of_one_class_or_one_user_is_null(world: World) -> None:
    world.labels[world.scenario == 1] = 0
    world.users[world.scenario == 2] = 7
    world.run("dnn")
    world.run("mmoe", 1.0)
    comparison = compare_runs([world / "dnn", world / "mmoe"])
    record = json.loads(json.dumps(comparison_json(comparison), allow_nan=False))
    mmoe = by_name(record)["mmoe"]
    nothing = dict.fromkeys(("auc", "rela_impr", "auc_ratio_impr", "difference"))
    assert mmoe["scenarios"]["cart"] == nothing
    feed, base = mmoe["scenarios"]["feed"], by_name(record)["dnn"]["scenarios"]["feed"]["auc"]
    assert feed["auc_ratio_impr"] == pytest.approx(feed["auc"] / base - 1)
    assert feed["rela_impr"] == (pytest.approx((feed["auc"] - 0.5) / (base - 0.5) - 1) if base > 0.5 else None)
    assert mmoe["scenarios"]["ads"]["auc"] > 0.5 and mmoe["scenarios"]["ads"]["difference"] is None
    assert mmoe["scenarios"]["feed"]["difference"]["p"] <= 1
    assert mmoe["macro_auc"] == pytest.approx(np.mean([mmoe["scenarios"][s]["auc"] for s in ("feed", "ads")]))
    assert re.search(r"\| cart \| [\d,]+ \| – \| – \|", comparison_markdown(comparison))


# What is written


def test_one_run_is_a_table_without_differences(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = compare_runs([str(world.run("dnn"))])
    assert comparison_json(comparison)["variants"][0]["difference"] is None
    print_comparison(comparison)
    out = capsys.readouterr().out
    assert "dnn" in out and "less" not in out and "Differences" not in out
    write_comparison(comparison, world.folder / "out")
    assert "Difference" not in (world.folder / "out" / "compare.html").read_text().partition("</script>")[2]


def test_the_folder_holds_json_markdown_and_a_page_of_its_own(
    compared: tuple[World, dict[str, Any]], tmp_path: Path
) -> None:
    world, record = compared
    comparison = compare_runs([str(path) for path in world.logits])
    write_comparison(comparison, tmp_path / "deep" / "out")
    write_comparison(comparison, tmp_path / "deep" / "out")
    files = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "deep" / "out").iterdir()}
    assert set(files) == {"compare.json", "compare.md", "compare.html"}
    assert json.loads(files["compare.json"]) == record
    lines = files["compare.md"][files["compare.md"].index("| variant |") :].splitlines()
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[:5])
    assert head == ["variant", "seeds", "AUC", "sd", "log loss", "macro", "GAUC", "less dnn"]
    assert [row[0] for row in rows] == sorted(RUNS, key=lambda name: -by_name(record)[name]["auc"]["value"])
    mmoe = by_name(record)["mmoe"]
    half = {key: (mmoe[key]["high"] - mmoe[key]["low"]) / 2 for key in ("auc", "difference")}
    assert rows[0][2] == f"{mmoe['auc']['value']:.4f} ± {half['auc']:.4f}" and rows[0][3] == "–"
    assert rows[0][7] == f"+{mmoe['difference']['value']:.4f} ± {half['difference']:.4f} \\*"
    assert next(row[7] for row in rows if row[0] == "dnn") == "baseline"
    page = re.sub(r"<script.*?</script>", "", files["compare.html"], flags=re.DOTALL)
    assert len(re.findall(r'id="picture-\d"', page)) == 3
    assert "Against dnn, of 2 comparisons, significantly higher: mmoe" in page
    assert all(f"<td>{name}</td>" in page for name in (*RUNS, *SCENARIOS))
    assert not re.search(r"<(link|img|iframe)|\b(src|href)=", page)


def test_names_are_text_not_markup(world: World) -> None:
    words = [f"a|b<i>*={world.run('dnn')}", f"<img src>={world.run('star')}"]
    comparison = compare_runs(words)
    write_comparison(comparison, world.folder / "out")
    page = (world.folder / "out" / "compare.html").read_text()
    assert "<img" not in page and "<i>" not in page and "a|b&lt;i&gt;*" in page
    assert "| a\\|b<i>\\* |" in comparison_markdown(comparison)


def test_the_terminal_shows_whole_figures_however_narrow(
    compared: tuple[World, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world, record = compared
    monkeypatch.setenv("COLUMNS", "40")
    print_comparison(compare_runs([str(path) for path in world.logits]))
    out = capsys.readouterr().out
    assert "…" not in out and "less dnn" in out
    for name, variant in by_name(record).items():
        line = next(line for line in out.splitlines() if line.startswith(name))
        assert f"{variant['auc']['value']:.4f}" in line and f"{variant['gauc']:.4f}" in line
        assert line.rstrip().endswith("*") == (name != "dnn" and variant["difference"]["significant"])


# On the command line


def test_trained_runs_of_any_strategy_are_compared(prepared_genre: Path, tmp_path: Path) -> None:
    for name, more, seed in (("mix/1", {}, 1), ("mix/2", {}, 2), ("finetune", {"strategy": {"name": "finetune"}}, 1)):
        train(config_of(prepared_genre, more=more, epochs=1, seed=seed), tmp_path / name)
    runs = [tmp_path / "mix" / "1", tmp_path / "mix" / "2", tmp_path / "finetune"]
    record = json.loads(succeeds("compare", *runs, "--json", "--out", tmp_path / "out"))
    assert record == json.loads((tmp_path / "out" / "compare.json").read_text())
    variants = by_name(record)
    assert {name: variant["seeds"] for name, variant in variants.items()} == {"mix": [1, 2], "finetune": [1]}
    for name, paths in (("mix", runs[:2]), ("finetune", runs[2:])):
        metrics = [metrics_of_run(path) for path in paths]
        for key, figure in (("auc", variants[name]["auc"]["value"]), ("gauc", variants[name]["gauc"])):
            assert figure == pytest.approx(np.mean([m["overall"][key] for m in metrics]), abs=1e-9)
        macro = np.mean([m["macro"]["auc"] for m in metrics])
        assert variants[name]["macro_auc"] == pytest.approx(macro, abs=1e-9)
    assert variants["finetune"]["settings"]["strategy.name"] == "finetune"


def test_the_command_of_the_documentation_runs_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path / "build" / "runs")
    for path, seed in (("shared_bottom", 1), ("mscan/seed-1", 1), ("mscan/seed-2", 2)):
        world.run(path, seed=seed)
    page = (ROOT / "docs" / "comparing.md").read_text()
    command = shlex.split(next(re.finditer(r"^    (swrec compare .*)$", page, re.MULTILINE))[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit, match="0"):
        main()
    out = capsys.readouterr().out
    assert "2 variants in 3 runs" in out and "less shared_bottom" in out
    record = json.loads((tmp_path / "build" / "compare" / "compare.json").read_text())
    tables = page.partition("## compare.json")[2].split("| key of a variant |")
    first_cells = ["".join(row.split("|")[1] for row in table.splitlines() if row.startswith("|")) for table in tables]
    assert [set(re.findall(r"`(\w+)`", text)) for text in first_cells] == [set(record), set(record["variants"][0])]
