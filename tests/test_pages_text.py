"""What pages say where a browser is not needed: Markdown, empty states, and refusals in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import backfill_example
import pytest
from commands import swrec
from small_experiment import EXPERIMENT
from test_report import predictions, run_dir

from swrec_prod.drawing.html import as_html
from swrec_prod.drawing.markdown import as_markdown
from swrec_prod.drawing.page import Card, Decision, Facts, Links, Page, Point, Table
from swrec_prod.drawing.style import absent
from swrec_prod.drawing.whiskers import EACH_SIDE, Unit, Whisker, seesaw
from swrec_prod.evaluate.text import Grid, axis_names
from swrec_prod.judge.record import BackfillRecord
from swrec_prod.pages.backfill_page import backfill_page, decision
from swrec_prod.pages.experiment_page import experiment_page

EVERYTHING = Page(
    "a *title* <b>",
    "lead",
    [Card("AUC", "0.7", "note")],
    [
        absent("Curve", "Left out: y<sub>m</sub> has no rows."),
        Table("Figures", Grid(("name", "n"), [["a|b", "1"]]), "how"),
        Facts("Facts", [("key", "<i>value</i>")]),
        Decision("Gate", "hold", "bad", "stays", [Point("bad", "loses 1 %")]),
        Links("Beside", [("backfill.html", "../b/backfill.html")]),
    ],
)


def test_markdown_says_what_the_page_says() -> None:
    assert as_markdown(EVERYTHING).split("\n\n") == [
        "# a \\*title\\* \\<b\\>",
        "lead",
        "- AUC: **0.7** (note)",
        "## Curve",
        "Left out: y<sub>m</sub> has no rows.",
        "## Figures",
        "how",
        "| name | n |\n| --- | ---: |\n| a\\|b | 1 |",
        "## Facts",
        "- key: \\<i\\>value\\</i\\>",
        "## Gate",
        "**✗ hold** stays",
        "- ✗ loses 1 %",
        "## Beside",
        "- [backfill.html](../b/backfill.html)\n",
    ]


def test_text_is_escaped_and_subscripts_are_not() -> None:
    body = as_html(EVERYTHING).partition("</head>")[2]
    assert "a *title* &lt;b&gt;" in body and "&lt;i&gt;value" in body and "y<sub>m</sub>" in body


def test_a_seesaw_is_sorted_and_says_who_gained_and_lost() -> None:
    whiskers = [
        Whisker("b", -0.02, -0.03, -0.01, "loss"),
        Whisker("a", 0.01, 0.005, 0.015, "gain"),
        Whisker("c", 0.0, -0.01, 0.01, ""),
    ]
    picture = seesaw("Title", whiskers, Unit("AUC"), "")
    assert picture.finding == (
        "Of 3 scenarios, 1 gained and 1 lost more than chance explains; most gained a (+0.0100), most lost b (−0.0200)."
    )
    assert picture.figure is not None and list(picture.figure.data[0].y) == ["a", "c", "b"]


def test_of_many_scenarios_both_ends_are_drawn_and_the_others_in_one_line() -> None:
    picture = seesaw("Title", [Whisker(f"s{i}", i / 1000, None, None, "") for i in range(100)], Unit("AUC"), "")
    assert picture.figure is not None
    drawn = picture.figure.data[0]
    assert len(drawn.y) == 2 * EACH_SIDE + 1 and drawn.y[0] == "s99" and drawn.y[-1] == "s0"
    middle = drawn.y.index("… 60 between …")
    assert drawn.x[middle] == pytest.approx(0.0495)
    assert drawn.x[middle] + drawn.error_x.array[middle] == pytest.approx(0.079)


def test_a_seesaw_without_scenarios_says_so() -> None:
    assert "no scenario has a difference" in seesaw("Title", [], Unit("AUC"), "").finding


def test_names_that_differ_at_their_ends_are_cut_in_the_middle() -> None:
    names = [f"landing page of campaign number {i}" for i in range(100)]
    cut = axis_names(names)
    assert len(set(cut)) == 100 and max(map(len, cut)) <= 24 and cut[7].endswith("number 7")


def test_a_backfill_of_one_model_has_no_differences_and_no_gate() -> None:
    content = backfill_example.backfill()
    alone = {"models": content["models"][:1], "champion": None, "differences": [], "verdict": None}
    page = backfill_page(BackfillRecord.model_validate({**content, **alone}))
    titles = [section.title for section in page.sections]
    assert "Gate" not in titles and not any("Difference" in title or "gain and lose" in title for title in titles)


def test_a_challenger_that_passes_is_promoted() -> None:
    verdict = BackfillRecord.model_validate(backfill_example.backfill()).verdict
    assert verdict is not None and decision(verdict).tone == "bad"
    promoted = decision(verdict.model_copy(update={"verdict": "promote"}))
    assert promoted.tone == "good" and "mscan may take the place of shared_bottom" in promoted.text


def test_an_experiment_that_must_not_be_acted_on_says_so_first() -> None:
    stopped = experiment_page(replace(EXPERIMENT, stop="units are missing"))
    assert isinstance(stopped.sections[0], Decision) and stopped.sections[0].word == "stop"


def test_a_report_that_is_no_html_file_is_refused(tmp_path: Path) -> None:
    run = run_dir(tmp_path / "run", predictions(400))
    outcome = swrec("report", run, "--out", tmp_path / "report.md")
    assert outcome.code == 2 and "report.md: the page is an HTML file" in outcome.err and outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "remedy"), [("--backfill", "swrec backfill"), ("--comparison", "swrec compare RUN_DIR...")]
)
def test_a_folder_that_is_none_is_refused(tmp_path: Path, option: str, remedy: str) -> None:
    run = run_dir(tmp_path / "run", predictions(400))
    outcome = swrec("report", run, "--out", tmp_path / "report.html", option, tmp_path / "nothing")
    assert outcome.code == 2 and remedy in outcome.err and outcome.err.count("\n") == 1
    assert not (tmp_path / "report.html").exists()
