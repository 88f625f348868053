"""docs/serving.md is true: its programs run against a server, and its tables are those of the code."""

from __future__ import annotations

import io
import re
import runpy
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from runs import ROOT

from swrec_prod.cli import app
from swrec_prod.serving.routing.routes import Route, Routes
from swrec_prod.serving.service.callers_file import CallerConfig, Callers
from swrec_prod.serving.watching.counts import CODES, REASONS, Layout, Served
from swrec_prod.serving.watching.metrics import Tally

PAGE = ROOT / "docs" / "serving.md"
TRITON = ROOT / ".venv-triton" / "bin" / "python"


class Row(NamedTuple):
    """A row of a table: the code in its first cell, and its other cells."""

    name: str
    cells: tuple[str, ...]


def block(title: str) -> str:
    """The block whose fence says this: `python ask.py`."""
    return re.search(rf"^```{title}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[1]


def table(header: str) -> list[Row]:
    """The table that begins with this header cell."""
    body = PAGE.read_text().partition(f"\n| {header} |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines()[2:]]
    return [Row(first.strip("`"), tuple(rest)) for first, *rest in rows]


def program(name: str, target: str, folder: Path) -> Path:
    """A program of the page for the server of the tests, however slow this machine is."""
    text = block(f"python {name}").replace("127.0.0.1:8500", target)
    path = folder / name
    path.write_text(re.sub(r"timeout=0\.2\b", "timeout=60", text))
    return path


@pytest.mark.parametrize("name", ["ask.py", "ask_many.py", "any_client.py"])
def test_programs_run(name, tiny_server, tmp_path):
    with redirect_stdout(io.StringIO()) as out:
        runpy.run_path(str(program(name, tiny_server, tmp_path)), run_name="__main__")
    assert re.search(r"2 .*(home|cart)", out.getvalue()), "the version, and the place that was scored"


@pytest.mark.process
def test_the_program_of_tritons_client_runs(tiny_server, tmp_path):
    if not TRITON.exists():
        pytest.skip("make triton makes .venv-triton, which has Triton's client")
    command = [TRITON, program("triton.py", tiny_server, tmp_path)]
    ran = subprocess.run(command, text=True, capture_output=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("home\n") and "'history.item'" in ran.stdout


def test_the_files_of_routes_and_callers_are_right(tmp_path):
    for name in ("routes.yaml", "callers.yaml"):
        (tmp_path / name).write_text(block(f"yaml {name}"))
    routes = Routes.load(tmp_path / "routes.yaml")
    assert routes.route("cart").model == "shared_bottom" and routes.route("elsewhere").model == "mscan"
    Callers.load(tmp_path / "callers.yaml")


def test_tables_have_all_keys_flags_codes_and_metrics():
    keys = {row.name for row in table("key")}
    assert keys == set(Route.model_fields)
    of_callers = PAGE.read_text().partition("## Callers")[2].partition("## Limits")[0]
    assert set(re.findall(r"^\| `(\w+)`", of_callers, re.MULTILINE)) == set(CallerConfig.model_fields)
    assert {row.name for row in table("code")} == set(CODES)
    assert {row.name for row in table("metric")} == set(metrics())
    reasons = next(row for row in table("metric") if row.name == "scorer_rejected_total").cells[0]
    assert set(re.findall(r"\w+", reasons.partition(":")[2])) == set(REASONS) - {"other"}


def metrics() -> Iterator[str]:
    """Names as Prometheus shows them."""
    served, variants, tally = [Served("mscan", "1", ("home",), ("item_id",))], [("c_sweep", "stronger")], Tally()
    tally.begin(served, memoryview(bytearray(Layout(served, variants).bytes(1))), variants)
    for metric in tally.collect():
        yield metric.name + ("_total" if metric.type == "counter" else "")


def test_limits_are_flags_with_these_defaults():
    parameters = typer.main.get_command(app).commands["serve"].params  # type: ignore[attr-defined]
    defaults = {f"--{p.name.replace('_', '-')}": str(p.default) for p in parameters}
    limits = {row.name: row.cells[0] for row in table("flag")}
    assert limits == {name: default for name, default in defaults.items() if name.startswith("--max-")}
    text = PAGE.read_text()
    for name in ("--notice", "--grace", "--default-deadline-ms"):
        assert (
            f"`{name}` ({float(defaults[name]):g})" in text or f"`{name}` seconds ({float(defaults[name]):g})" in text
        )
