"""Pages in a real browser: every picture is drawn, nothing is fetched or complained of, nothing is wider than a phone,
and what is shown is what the JSON beside it says. Skipped where there is no Chromium.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import backfill_example
import numpy as np
import pytest
from browser import DESKTOP, PHONE, Browser, Seen, browser_of, find_browser
from finished_runs import World
from large_backfill import large_backfill
from small_experiment import EXPERIMENT
from test_debias import run as debiased_run
from test_report import predictions, run_dir

from swrec_prod.compare.comparison import compare_runs
from swrec_prod.debiasing.curves import Asked, curves
from swrec_prod.debiasing.curves_text import write_debias
from swrec_prod.drawing.heat_map import NAMED
from swrec_prod.drawing.whiskers import EACH_SIDE
from swrec_prod.judge.record import BackfillRecord
from swrec_prod.pages.backfill_page import write_backfill_page
from swrec_prod.pages.compare_page import write_comparison
from swrec_prod.pages.debias_page import write_debias_page
from swrec_prod.pages.elsewhere import sections_beside
from swrec_prod.pages.experiment_page import write_experiment_page
from swrec_prod.pages.run_page import write_report

pytestmark = pytest.mark.process
FIGURES = ("auc", "gauc", "ndcg", "page_rate")
LONG = ("a scenario whose name is far too long for a phone", "another_one_that_has_not_even_a_single_space_in_it", "x")
PAGES = {  # page -> pictures on it
    "run/report.html": 7,
    "beside/report.html": 9,
    "compare/compare.html": 3,
    "backfill/backfill.html": 9,
    "many/backfill.html": 12,
    "experiment/experiment.html": 5,
    "debias/debias.html": 8,
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium on the PATH")
    with browser_of(path, tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages of PAGES with what is beside them. many: hundreds of scenarios on 90 days."""
    out = tmp_path_factory.mktemp("pages")
    write_report(run_dir(out / "a_run", predictions(names=LONG)), out / "run" / "report.html")
    world = World(out / "world")
    runs = [str(world.run(name, quality)) for name, quality in (("dnn", 0.5), ("mmoe", 2.5))]
    write_comparison(compare_runs(runs), out / "compare")
    for name, record in (
        ("backfill", BackfillRecord.model_validate(backfill_example.backfill())),
        ("many", large_backfill(("shared_bottom", LONG[1]), 90, 355)),
    ):
        record.write(out / name)
        write_backfill_page(record, out / name)
    EXPERIMENT.write(out / "experiment" / "experiment.json")
    write_experiment_page(EXPERIMENT, out / "experiment")
    write_curves(out)
    page = out / "beside" / "report.html"
    more = sections_beside(out / "backfill", out / "compare", page)
    write_report(run_dir(out / "b_run", predictions(400)), page, more=more)
    return out


def write_curves(out: Path) -> None:
    """Of two runs with another alpha, whose tables say which rows chance chose."""
    chance = np.arange(1500) % 3 == 0
    runs = [debiased_run(out / "runs" / f"mscan_{alpha:g}", alpha, c=alpha, is_random=chance) for alpha in (0.5, 0.1)]
    found = curves([str(run) for run in runs], Asked((-2.0, 0.0, 2.0), k=4, random="is_random"))
    write_debias(found, out / "debias")
    write_debias_page(found, out / "debias")


@pytest.fixture(scope="module")
def seen(browser: Browser, folder: Path) -> dict[str, Seen]:
    """Every page as a phone shows it."""
    return {page: browser.look(folder / page, PHONE) for page in PAGES}


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_is_drawn_and_nothing_is_amiss(page: str, seen: dict[str, Seen]) -> None:
    shown = seen[page]
    assert shown.complaints == [] and shown.requests == []
    assert shown.expected == len(shown.plots) == PAGES[page]
    assert all(plot["drawn"] >= 1 and plot["width"] > 0 for plot in shown.plots), shown.plots
    assert not re.search(r"\bnan\b|undefined|None", shown.text)


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_wider_than_a_phone(page: str, seen: dict[str, Seen]) -> None:
    assert seen[page].width == PHONE


def test_pictures_use_the_width_of_a_desktop(browser: Browser, folder: Path) -> None:
    shown = browser.look(folder / "backfill/backfill.html", DESKTOP)
    assert shown.width <= DESKTOP and all(900 < plot["width"] < DESKTOP for plot in shown.plots)


def test_a_finger_scrolls_over_pictures_and_a_mouse_zooms(browser: Browser, folder: Path) -> None:
    mode = "document.querySelector('.js-plotly-plot')._fullLayout.dragmode"
    browser.look(folder / "experiment/experiment.html", DESKTOP)
    assert browser.evaluate(mode) == "zoom"


def test_a_menu_changes_the_model_of_a_heat_map(browser: Browser, folder: Path) -> None:
    browser.look(folder / "backfill/backfill.html", DESKTOP)
    maps = (
        "[...document.querySelectorAll('.js-plotly-plot')].find(p => p.data.length == 2 && p.data[0].type == 'heatmap')"
    )
    choose = f"(async () => {{ const p = {maps}; const b = p.layout.updatemenus[0].buttons[1];"
    shown = browser.evaluate(f"{choose} await Plotly.restyle(p, ...b.args); return p.data.map(t => t.visible); }})()")
    assert shown == [False, True]


def test_figures_of_a_run_are_those_of_its_json(folder: Path, seen: dict[str, Seen]) -> None:
    beside = read(folder / "run" / "report.json")
    overall = beside["metrics"]["overall"]
    text = seen["run/report.html"].text
    assert all(f"{overall[name]:.4f}" in text for name in ("auc", "gauc", "logloss", "ece"))
    interval = beside["auc_intervals"]["overall"]
    assert f"{interval['low']:.4f} to {interval['high']:.4f}" in text
    assert set(beside["auc_intervals"]["scenarios"]) == set(LONG) == set(beside["calibration_curves"])
    assert len(beside["strengths"]["auc"]) == len(beside["strengths"]["c"]) > 20
    assert f"**{overall['auc']:.4f}**" in (folder / "run" / "report.md").read_text()


def test_heat_maps_draw_the_figures_of_the_json(browser: Browser, folder: Path) -> None:
    """The drawn cells, as the browser holds them, against backfill.json."""
    browser.look(folder / "backfill/backfill.html", DESKTOP)
    cells = "Array.from(p._fullData[0].z, row => Array.from(row, v => Number.isNaN(v) ? null : v))"
    plots = "[...document.querySelectorAll('.js-plotly-plot')]"
    z = browser.evaluate(f"{plots}.filter(p => p.data[0].type == 'heatmap').map(p => {cells})[0]")
    model = read(folder / "backfill" / "backfill.json")["models"][0]
    expected = [[by_scenario(day)[name] for day in model["days"]] for name in backfill_example.SCENARIOS]
    assert [[None if v is None else round(v, 4) for v in row] for row in z] == expected


def test_the_gate_says_why(folder: Path, seen: dict[str, Seen]) -> None:
    verdict = read(folder / "backfill" / "backfill.json")["verdict"]
    for page in ("backfill/backfill.html", "beside/report.html"):
        assert f"✗ {verdict['verdict']}" in seen[page].text
        assert all(reason["text"] in seen[page].text for reason in verdict["reasons"])


def test_hundreds_of_scenarios_stay_readable(folder: Path, seen: dict[str, Seen]) -> None:
    text = seen["many/backfill.html"].text
    assert f"The {NAMED} busiest of 355 scenarios." in text and f"Drawn are {EACH_SIDE} from either end" in text
    assert "355 rows" in text, "the table is folded"


def test_lifts_are_those_of_the_experiment(folder: Path, seen: dict[str, Seen]) -> None:
    content, text = read(folder / "experiment" / "experiment.json"), seen["experiment/experiment.html"].text
    lift = content["populations"][0]["lifts"][0]
    assert f"+{100 * lift['relative']['value']:.2f}\u202f%" in text and lift["verdict"] in text
    assert all(f["text"] in text for f in content["findings"])


def test_curves_are_those_of_debias_json(browser: Browser, folder: Path, seen: dict[str, Seen]) -> None:
    found, text = read(folder / "debias" / "debias.json")["curves"], seen["debias/debias.html"].text
    assert [curve["alpha"] for curve in found] == [0.1, 0.5]
    assert all(f"{point[name]['value']:.4f}" in text for curve in found for point in curve["at"] for name in FIGURES)
    browser.look(folder / "debias/debias.html", DESKTOP)
    drawn = browser.evaluate("Array.from(document.querySelectorAll('.js-plotly-plot')[0].data[0].y)")
    assert drawn == pytest.approx([curve["at"][1]["auc"]["value"] for curve in found]), "at c = 0"


def test_a_run_links_to_the_pages_beside_it(folder: Path) -> None:
    page = folder / "beside" / "report.html"
    targets = re.findall(r'<li><a href="([^"]+)"', page.read_text())
    assert len(targets) == 2 and all((page.parent / target).is_file() for target in targets)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def by_scenario(day: dict[str, Any]) -> dict[str, float | None]:
    return {f["scenario"]: f["metrics"]["auc"] for f in day["figures"]}
