"""`swrec simulate`: any number of scenarios, options that are refused, and folders replaced whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import succeeds
from hypothesis import given
from hypothesis import strategies as st
from simulations import files, options, simulated

from swrec_prod.errors import ConfigError, DataError
from swrec_prod.simulation.simulate import _write_part, data_file, simulate
from swrec_prod.simulation.simulator import Day
from swrec_prod.simulation.world import ITEMS_PER_CATEGORY, Simulation, apportion
from swrec_prod.strict import parse


@pytest.mark.parametrize(("scenarios", "rows_per_day"), [(2, 2000), (1000, 20_000), (1000, 100), (5, 10)])
def test_any_number_of_scenarios(tmp_path: Path, scenarios: int, rows_per_day: int) -> None:
    rows = simulated(tmp_path / "a", scenarios=scenarios, rows_per_day=rows_per_day, days=2)
    names, counts = np.unique(rows["scenario"], return_counts=True)
    known = data_file(options(scenarios=scenarios))["schema"]["scenario"]["values"]
    assert set(names) <= set(known) and len(known) == scenarios and len(rows["row"]) == 2 * rows_per_day
    if rows_per_day >= 20 * scenarios:
        assert len(names) == scenarios and counts.max() > 1.4 * counts.min()


@given(
    shares=st.lists(st.lists(st.floats(1e-6, 1), min_size=5, max_size=5), min_size=1, max_size=4),
    total=st.integers(5, 300),
)
def test_apportion_is_whole_complete_and_near(shares: list[list[float]], total: int) -> None:
    wanted = np.array(shares) / np.sum(shares, axis=1, keepdims=True)
    counts = apportion(wanted, total)
    assert (counts.sum(1) == total).all() and counts.min() >= 1
    assert (np.abs(counts - 1 - wanted * (total - 5)) <= 1 + 1e-9).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("days", 0),
        ("rows-per-day", 9),
        ("scenarios", 1),
        ("scenarios", 1001),
        ("seed", -1),
        ("users", 3),
        ("items", 2 * ITEMS_PER_CATEGORY - 1),
        ("direct-effect", -0.1),
        ("drift", float("nan")),
        ("random-exposure", 1.5),
        ("start", "2024-02-30"),
        ("history-length", 0),
    ],
)
def test_a_bad_option_is_named_on_one_line(name: str, value: Any) -> None:
    given = {"--days": 1, "--rows-per-day": 100, "--scenarios": 2, "--seed": 1} | {f"--{name}": value}
    with pytest.raises(ConfigError, match=f"swrec simulate: --{name}: ") as error:
        parse(Simulation, given, "swrec simulate")
    assert str(value) in str(error.value) and "\n" not in str(error.value)


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    words = ("simulate", "--days", 2, "--rows-per-day", 500, "--scenarios", 3, "--seed", 1, "--conversions", "--out")
    summary = json.loads(succeeds(*words, tmp_path / "a", "--json"))
    clicks = pq.read_table(tmp_path / "a" / "log")["click"].to_numpy().sum()
    assert (summary["rows"], summary["days"], summary["clicks"]) == (1000, 2, clicks)
    assert 0 <= summary["conversions"] <= clicks
    lines = succeeds(*words, tmp_path / "b", "--start", "2024-02-28").splitlines()
    assert [line.partition(":")[0] for line in lines] == ["2024-02-28", "2024-02-29", "wrote 1,000 rows; next"]


def test_a_folder_is_replaced_only_where_that_is_meant(tmp_path: Path) -> None:
    out, few = tmp_path / "out", options(days=1, rows_per_day=200)
    simulate(few, out)
    with pytest.raises(DataError, match="holds a simulation"):
        simulate(few, out)
    assert simulate(few, out, overwrite=True)["rows"] == 200
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(DataError, match="no simulation"):
        simulate(few, tmp_path / "mine", overwrite=True)
    with pytest.raises(DataError, match="is a file"):
        simulate(few, tmp_path / "mine" / "thesis.txt", overwrite=True)


def test_a_full_disk_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, few = tmp_path / "out", options(days=2, rows_per_day=200)
    simulate(few, out)
    before = {name: (out / name).read_bytes() for name in files(out)}
    whole = _write_part

    def full(day: Day, *rest: Any) -> Any:
        if day.number == 1:
            raise OSError(28, "No space left on device")
        return whole(day, *rest)

    monkeypatch.setattr("swrec_prod.simulation.simulate._write_part", full)
    with pytest.raises(DataError, match=r"out: cannot be written: No space left on device"):
        simulate(few.model_copy(update={"seed": 9}), out, overwrite=True)
    assert {name: (out / name).read_bytes() for name in files(out)} == before and [
        p.name for p in tmp_path.iterdir()
    ] == ["out"]
