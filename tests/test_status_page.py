"""The status page in a real browser: it shows what the metrics endpoint says, runs nothing that a name holds, and says
when the server is gone. Skipped where there is no Chromium.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from browser import DESKTOP, PHONE, Browser, browser_of, find_browser
from prometheus_client.parser import text_string_to_metric_families
from runs import wait_for
from tiny_world import ITEMS, USER, launch

from swrec_prod.errors import RequestError
from swrec_prod.serving.client import Client

pytestmark = pytest.mark.process
HOSTILE = "<img src=x onerror=\"document.title='run'\">"
EXPERIMENTS = {
    "layers": {"debias": {}},
    "experiments": {
        HOSTILE: {
            "layer": "debias",
            "control": "as_today",
            "variants": {
                "as_today": {"buckets": [[0, 5000]]},
                "stronger": {"buckets": [[5000, 10000]], "strength": 0.125},
            },
        }
    },
}
ROWS = """[...document.querySelectorAll('#%s tr')].map(row => [...row.cells].map(cell => cell.innerText))"""


@pytest.fixture(scope="module")
def server(tiny_repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Any]]:
    """Address, the page's address, and the process of a server with an experiment, that has answered some requests."""
    folder = tmp_path_factory.mktemp("status")
    (folder / "E.yaml").write_text(yaml.safe_dump(EXPERIMENTS))
    (folder / "R.yaml").write_text("{default: {model: mscan}, scenarios: {cart: {strength: 0.5}}}")
    files = {"experiments": folder / "E.yaml", "routes": folder / "R.yaml"}
    process = launch(tiny_repo, folder / "port", metrics_port=0, **files)
    try:
        target = wait_for(folder / "port", process)
        page = next(line.split()[-1] for line in process.stdout or () if line.startswith("status page on "))
        with Client(target, timeout=30) as client:
            for number in range(30):
                client.score("cart" if number % 3 else "home", USER, ITEMS, unit=str(number))
            with pytest.raises(RequestError):
                client.score("home", {"user_id": "u1"}, ITEMS)
        yield target, page, process
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium on the PATH")
    with browser_of(path, tmp_path_factory.mktemp("browser")) as running:
        yield running


def until(true: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)
    return value


def metrics(page: str) -> dict[str, dict[tuple[str, ...], float]]:
    """By name, the samples of the metrics endpoint by their labels' values."""
    text = urllib.request.urlopen(f"{page}metrics", timeout=10).read().decode()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def shown(browser: Browser, table: str) -> list[list[str]]:
    """The rows below a table's head."""
    return browser.evaluate(ROWS % table)[1:]


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_it_shows_what_the_metrics_say(server: tuple[str, str, Any], browser: Browser, tmp_path: Path) -> None:
    _, page, _ = server
    seen = browser.look(page, DESKTOP)
    until(lambda: browser.evaluate("Number(document.body.dataset.asked ?? 0) >= 2"))
    found = metrics(page)
    ours = {tuple(row[:3]): [number(cell) for cell in row[3:5]] for row in shown(browser, "requests")}
    theirs: dict[tuple[str, ...], list[float]] = {}
    for labels, value in found["scorer_requests_total"].items():
        of = dict(labels)
        counted = theirs.setdefault((of["scenario"], of["model"], of["version"]), [0, 0])
        counted[of["code"] != "OK"] += value
    assert ours == theirs and sum(ok for ok, _ in ours.values()) == 30 and sum(bad for _, bad in ours.values()) == 1
    variants = {row[2]: number(row[5]) for row in shown(browser, "experiments")}
    assert variants == {dict(labels)["variant"]: value for labels, value in found["scorer_assignments_total"].items()}
    assert sum(variants.values()) == 30
    packages = {(row[0], row[1]): number(row[3]) for row in shown(browser, "packages")}
    assert packages == {
        (dict(labels)["model"], dict(labels)["version"]): value
        for labels, value in found["scorer_candidates_total"].items()
    }
    assert ["cart", "strength: 0.5"] in shown(browser, "routes")
    assert "1 of 1 workers serve" in browser.evaluate("document.body.innerText")
    asked = [url.removeprefix(page) for url in seen.requests]
    assert seen.complaints == [] and set(asked) <= {"status.css", "status.js", "status.json"}
    assert browser.evaluate("document.querySelectorAll('#charts polyline').length") == 8
    browser.photograph(tmp_path / "status.png")


def test_names_are_text_and_a_phone_needs_no_more_width(server: tuple[str, str, Any], browser: Browser) -> None:
    _, page, _ = server
    browser.look(page, PHONE)
    until(lambda: browser.evaluate("Number(document.body.dataset.asked ?? 0) >= 1"))
    assert {row[0] for row in shown(browser, "experiments")} == {HOSTILE}
    assert browser.evaluate("document.title") == "Scoring server" and not browser.evaluate("document.images.length")
    assert browser.evaluate("document.documentElement.scrollWidth") <= PHONE


def test_everything_else_is_not_there(server: tuple[str, str, Any]) -> None:
    _, page, _ = server
    for path in ("elsewhere", "page/status.js", "../../etc/passwd"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{page}{path}", timeout=10)
    answer = urllib.request.urlopen(f"{page}status.json", timeout=10)
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    status = json.load(answer)
    assert status["workers"] == {"serving": 1, "wanted": 1} and status["changes"] == []
    assert {package["model"] for package in status["packages"]} == {"mscan", "shared_bottom"}


def test_it_says_when_the_server_is_gone(server: tuple[str, str, Any], browser: Browser) -> None:
    _, page, process = server
    browser.look(page, DESKTOP)
    until(lambda: browser.evaluate("Number(document.body.dataset.asked ?? 0) >= 1"))
    assert browser.evaluate("document.getElementById('trouble').hidden")
    process.terminate()
    process.wait(60)
    until(lambda: not browser.evaluate("document.getElementById('trouble').hidden"))
    assert "does not answer" in browser.evaluate("document.getElementById('trouble').innerText")
    assert shown(browser, "requests"), "what was shown stays"
