"""Prepared days: what is written, from which rows it was fitted,
that it is written whole or not at all, and twice the same.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import platform
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dated_log import prepared_rows

from swrec_prod.config import DataConfig, DayRanges
from swrec_prod.data.catalog import Catalog
from swrec_prod.datasets import DATASETS
from swrec_prod.datasets.movielens import MOVIELENS_1M
from swrec_prod.errors import ConfigError, DataError
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.requests import last_days
from swrec_prod.prepare.run import prepare
from swrec_prod.raw.source import RawFile

pytestmark = pytest.mark.engine

START = datetime(2024, 1, 1, 12, tzinfo=UTC)
TOY = {
    "name": "toy",
    "time": "at",
    "user": "who",
    "labels": [{"name": "click", "column": "clicked"}],
    "features": [
        {"name": "item", "kind": "id", "side": "item", "encoder": "vocab"},
        {"name": "price", "kind": "dense", "side": "item", "encoder": "standard"},
        {"name": "seen", "kind": "sequence", "side": "user", "item": "item", "where": "click", "max_length": 3},
    ],
}


def log(**columns: Any) -> pa.Table:
    """Ten rows of two users on six days."""
    default = {
        "row": list(range(10)),
        "at": [START + timedelta(hours=12 * i) for i in range(10)],
        "who": ["u", "v"] * 5,
        "scenario": ["home", "home", "cart", "home", "home"] * 2,
        "clicked": [1, 0, 1, 1, 0] * 2,
        "item": ["a", "b", "c", "a", "d", "e", "a", "b", "f", "g"],
        "price": [float(i) for i in range(10)],
    }
    return pa.table({name: values for name, values in (default | columns).items() if values is not None})


def toy(**changes: Any) -> DataFile:
    schema = TOY | changes.pop("schema", {})
    return DataFile.model_validate(
        {"source": "movielens-1m", "options": {"scenarios": "age"}, "schema": schema, **changes}
    )


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Prepare a table that is given as it is; returns OUT and the manifest."""

    def call(
        table: pa.Table, data_file: DataFile | None = None, out: str = "out", **options: Any
    ) -> tuple[Path, dict[str, Any]]:
        raw = tmp_path / "raw"
        pq.write_table(table, raw)
        source = dataclasses.replace(
            MOVIELENS_1M,
            locate=lambda r, cache, options: (RawFile(raw),),
            read=lambda engine, files, options: engine.from_arrow(table),
        )
        monkeypatch.setitem(DATASETS, "movielens-1m", source)
        manifest = prepare(data_file or toy(), raw, tmp_path / out, **options)
        return tmp_path / out, manifest.to_json()

    return call


def test_rows_that_share_a_number_are_refused(run: Any) -> None:
    with pytest.raises(DataError, match="column 'row' has a number twice"):
        run(log(row=[0, 0, *range(8)]), toy(split={"random": {}}))
    with pytest.raises(
        DataError,
        match="raw: column 'row' has 2 values that several rows share; every row of the log needs its own",
    ):
        run(log(row=[*range(8), 1, 0]))


def test_values_that_only_later_days_have_are_unknown(run: Any) -> None:
    out, manifest = run(log(), toy(fit_until=date(2024, 1, 3)))  # rows 0..4
    assert pq.read_table(out / "vocab" / "item.parquet")["value"].to_pylist() == ["a", "b", "c", "d"]
    assert prepared_rows(out)["item"].to_pylist() == [1, 2, 3, 1, 4, 0, 1, 2, 0, 0]
    assert np.allclose(prepared_rows(out)["price"].to_numpy(), (np.arange(10) - 2) / np.sqrt(2))
    assert manifest["fit"] == {"rule": "days: ..2024-01-03", "rows": 5, "until": "2024-01-03"}
    # clicked before: a, c by u and a, e, b by v
    assert prepared_rows(out)["seen.item"].to_pylist()[8:] == [[1, 3], [1, 0, 2]]


def test_without_a_rule_the_last_fifth_of_days_is_not_fitted(run: Any) -> None:
    _, manifest = run(log())
    assert manifest["fit"] == {
        "rule": "days: ..2024-01-05 (all but the last 20 % of days)",
        "rows": 9,
        "until": "2024-01-05",
    }


def test_a_day_without_rows_has_no_file_and_is_not_fitted(run: Any) -> None:
    at = [START + timedelta(days=3 * i) for i in range(10)]  # 1, 4, 7 ... January
    out, manifest = run(log(at=at), toy(fit_until=date(2024, 1, 9)))
    assert [file["day"] for file in manifest["files"]] == [str(moment.date()) for moment in at]
    assert manifest["fit"]["until"] == "2024-01-07"  # the last day that has rows: the 8th may judge a model
    data = DataConfig(
        path=str(out), days=DayRanges(train="..2024-01-07", valid="2024-01-08..2024-01-20", test="2024-01-21..")
    )
    assert [len(Catalog.open(out).files_of(data, part)) for part in ("train", "valid", "test")] == [3, 4, 3]


def test_with_a_split_only_training_rows_are_behaviours(run: Any) -> None:
    """What a history tells of a valid or test row is its label: nothing may depend on those labels."""
    dealt = {"split": {"random": {"seed": 3, "parts": [0.5, 0.3, 0.2]}}}
    out, _ = run(log(clicked=[1] * 9 + [0], who=["u"] * 10), toy(**dealt), out="one")
    rows = prepared_rows(out).to_pylist()
    train = [row for row in rows if row["split"] == "train" and row["label_click"]]
    assert len(train) == 5 and any(row["split"] != "train" for row in rows[:-1])
    for row in rows:
        assert row["seen.time"] == [r["time"] for r in train if r["time"] < row["time"]][-3:]
    other = log(clicked=[row["label_click"] * (row["split"] == "train") for row in rows], who=["u"] * 10)
    same, _ = run(other, toy(**dealt), out="two")
    assert prepared_rows(same).drop(["label_click"]).equals(prepared_rows(out).drop(["label_click"]))


def test_requests_are_held_out_and_whole(run: Any) -> None:
    at = [START + timedelta(hours=i // 4) for i in range(400)]  # requests of four rows
    many = log(
        row=list(range(400)), at=at, who=[str(i // 4 % 7) for i in range(400)], clicked=[0, 1] * 200, price=[1.0] * 400,
        scenario=["home"] * 300 + ["cart"] * 80 + ["home"] * 20, item=["a"] * 400,
    )  # fmt: skip
    out, _ = run(many, toy(requests={"per_scenario": 6}))
    asked = pq.read_table(out / "requests.parquet")
    assert Counter(asked["scenario"].to_pylist()) == {"cart": 8, "home": 8}  # two whole requests each
    assert min(asked["row"].to_pylist()) >= 360
    groups = Counter(row // 4 for row in asked["row"].to_pylist())
    assert set(groups.values()) == {4}
    # side by side
    assert [row // 4 for row in asked["row"].to_pylist()] == [group for group in groups for _ in range(4)]


def test_requests_are_of_every_scenario_and_none_is_cut(run: Any) -> None:
    """A scenario that is rare, or was seen before the others only, has its requests too;
    one of three rows is never cut to two.
    """
    at = [START + timedelta(days=i // 300, minutes=i // 3) for i in range(600)]
    scenario = ["home"] * 303 + ["cart"] * 3 + ["home"] * 294
    many = {name: (log()[name].to_pylist() * 60) for name in ("clicked", "item", "price")}
    for keys in ({}, {"schema": {"request": "session"}}):
        table = log(
            row=list(range(600)),
            at=at,
            who=["u"] * 600,
            scenario=scenario,
            session=[i // 3 for i in range(600)],
            **many,
        )
        out, _ = run(table, toy(requests={"per_scenario": 40}, **keys), out=f"out-{len(keys)}")
        rows = pq.read_table(out / "requests.parquet")
        assert [
            row for row, of in zip(rows["row"].to_pylist(), rows["scenario"].to_pylist(), strict=True) if of == "cart"
        ] == [
            303,
            304,
            305,
        ]
        assert (
            set(Counter(row // 3 for row in rows["row"].to_pylist()).values()) == {3}
            and min(rows["row"].to_pylist()) >= 300
        )


def test_candidates_are_read_from_the_last_days_that_have_enough_of_each_scenario() -> None:
    days = {"1": {"a": 9, "b": 1}, "2": {"a": 5}, "3": {"a": 5, "b": 2}, "4": {"a": 5}}
    assert last_days(days, {"a": 5}, False) == ["4"] and last_days(days, {"a": 5}, True) == ["3", "4"]
    assert last_days(days, {"a": 6, "b": 2}, False) == ["3", "4"] and last_days(days, {"a": 1, "b": 3}, False) == list(
        days
    )
    assert last_days(days, {"a": 5, "c": 8}, False) == ["4"]  # c is of days that were fitted
    assert last_days({}, {"a": 5}, True) == []


def test_requests_are_rows_that_were_not_fitted(run: Any) -> None:
    many = {name: log()[name].to_pylist() * 10 for name in ("who", "scenario", "clicked", "item", "price")}
    table = log(**many, row=list(range(100)), at=[START + timedelta(hours=i) for i in range(100)])
    for until, first in ((date(2024, 1, 2), 90), (date(2024, 1, 4), 90), (None, 90), (date(2024, 1, 5), 100)):
        out, manifest = run(table, toy(fit_until=until), out=f"until-{until}")
        asked = pq.read_table(out / "requests.parquet")["row"].to_pylist()
        assert sorted(asked) == list(range(first, 100)) and not set(asked) & set(range(manifest["fit"]["rows"]))
    late = log(**many, row=list(range(100)), at=[START] * 95 + [START + timedelta(days=1)] * 5)
    out, _ = run(late, toy(fit_until=date(2024, 1, 1)), out="late")
    assert sorted(pq.read_table(out / "requests.parquet")["row"].to_pylist()) == list(range(95, 100))


def test_another_dataset_is_replaced_only_when_asked(run: Any, tmp_path: Path) -> None:
    out, _ = run(log())
    changed = log(price=[1.0] * 10)
    with pytest.raises(DataError, match="was prepared from other inputs; choose another folder, or overwrite it"):
        run(changed)
    run(changed, overwrite=True)
    assert prepared_rows(out)["price"].to_pylist() == [0.0] * 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def test_a_folder_of_other_things_is_never_touched(run: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    run(log(), out="out")  # empty: fine
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match="mine: exists and is no prepared dataset"):
        run(log(), out="mine", overwrite=True)
    for content in ("{", "[1]", "\x00"):
        (tmp_path / "mine" / "manifest.json").write_text(content)
        with pytest.raises(DataError, match=r"mine/manifest\.json: damaged; remove .*mine"):
            run(log(), out="mine", overwrite=True)
    # of an exported package, say
    (tmp_path / "mine" / "manifest.json").write_text('{"format": 1, "files": {"dense.pt": {}}}')
    with pytest.raises(DataError, match="mine: exists and is no prepared dataset"):
        run(log(), out="mine", overwrite=True)
    with pytest.raises(DataError, match="is a file"):
        run(log(), out="mine/thesis.txt")


@pytest.mark.process
def test_a_run_that_fails_or_is_killed_leaves_nothing(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    leftover, running = (tmp_path / f".out.tmp-{platform.node()}-{pid}" for pid in (int(killed.stdout), os.getppid()))
    for folder in (leftover, running):
        (folder / "day=2024-01-01").mkdir(parents=True)
    monkeypatch.setattr(
        "swrec_prod.prepare.write_local.day_slices",
        lambda days: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no space")),
    )
    with pytest.raises(
        DataError, match="the disk is full; make room and run swrec prepare again, it goes on where it stopped"
    ):
        run(log())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.partial", running.name, "raw"]
    monkeypatch.undo()
    out, _ = run(log())
    assert len(prepared_rows(out)) == 10 and not (tmp_path / ".out.partial").exists()


def test_a_large_day_has_several_row_groups(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = run(log(at=[START] * 10), out="whole")
    monkeypatch.setattr("swrec_prod.data.day_writer.GROUP_ROWS", 4)
    parts, manifest = run(log(at=[START] * 10), out="parts")
    assert manifest["files"][0]["row_groups"] == 3 and prepared_rows(parts).equals(prepared_rows(whole))


def test_weights_requests_and_unseen_scenarios_are_kept(run: Any) -> None:
    changes = {"weight": "w", "request": "session", "scenario": {"values": ["home"], "unseen": "fallback"}}
    out, manifest = run(log(w=[0.5] * 10, session=[f"s{i // 2}" for i in range(10)]), toy(schema=changes))
    rows = prepared_rows(out)
    assert rows["weight"].to_pylist() == [0.5] * 10 and rows["request"].to_pylist()[:3] == ["s0", "s0", "s1"]
    assert rows["scenario"].to_pylist()[:3] == [0, 0, 1]
    assert manifest["scenarios"]["2024-01-02"]["(unseen)"] == {"rows": 1, "positives": {"click": 1}}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"clicked": [2] + [0] * 9}, "label column 'clicked' has 1 values that are neither 0 nor 1"),
        ({"clicked": [None] * 2 + [0] * 8}, "label column 'clicked' has 2 values that are neither 0 nor 1"),
        ({"clicked": ["yes"] * 10}, "label column 'clicked' is string, expected 0 and 1"),
        ({"price": None, "prices": [1.0] * 10}, r"column 'price' \(feature price\) is missing; did you mean prices"),
        ({"price": ["cheap"] * 10}, r"column 'price' is string, expected numbers: .* \(feature 'price'\)"),
        ({"who": [None] + ["u"] * 9}, r"column 'who' \(user\) has 1 missing values"),
        ({"scenario": [1] * 10}, "column 'scenario' is int64, expected string"),
        ({"at": list(range(10))}, "column 'at' has times on 1970-01-01, before 1990-01-01; is its unit right"),
        ({"at": ["noon"] * 10}, "column 'at' is string, expected timestamp, or int64 microseconds since 1970"),
    ],
)
def test_a_table_that_is_not_what_the_schema_says_is_refused(
    run: Any, tmp_path: Path, columns: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        run(log(**columns))
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("column", ["row", "at"])
def test_a_row_without_number_or_time_is_refused_under_a_split_too(run: Any, column: str) -> None:
    values = [*log()[column].to_pylist()[:9], None]
    with pytest.raises(DataError, match=rf"column '{column}' \(\w+\) has 1 missing values; every row needs one"):
        run(log(**{"row": None, column: values}), toy(split={"random": {}}))


def test_a_scenario_that_the_schema_lacks_is_named_before_fitting(run: Any) -> None:
    said: list[str] = []
    known = {"schema": {"scenario": {"column": "scenario", "values": ["home"]}}}
    with pytest.raises(DataError, match=r"raw: column 'scenario' .* is 'cart' in 2 rows; known: home; add it"):
        run(log(), toy(**known), progress=said.append)
    assert not any("fitting" in line for line in said)
    known["schema"]["scenario"]["unseen"] = "fallback"
    out, _ = run(log(), toy(**known))
    assert Counter(prepared_rows(out)["scenario"].to_pylist()) == {0: 8, 1: 2}


def test_it_is_said_when_no_rows_are_left_to_judge_on(run: Any) -> None:
    said: list[str] = []
    out, _ = run(log(), toy(fit_until=date(2024, 2, 1)), progress=said.append)
    last = "and the last day is 2024-01-06: no rows are left to judge a model on, until later days are added"
    assert f"days: ..2024-02-01, {last}" in said
    assert pq.read_metadata(out / "requests.parquet").num_rows == 0


def test_nothing_to_prepare_or_to_fit_is_an_error(run: Any) -> None:
    with pytest.raises(DataError, match="the table is empty"):
        run(log().slice(0, 0))
    with pytest.raises(
        DataError, match=r"no row to fit vocabularies on \(days: \.\.2023-12-31; days are 2024-01-01\.\.2024-01-06\)"
    ):
        run(log(), toy(fit_until=date(2023, 12, 31)))
    with pytest.raises(ValueError, match="item 'tags' is not an id feature"):
        tags = {"name": "tags", "kind": "bag", "side": "item", "encoder": "vocab"}
        features = [tags, {"name": "seen", "kind": "sequence", "side": "user", "item": "tags"}]
        run(log(tags=[["x"]] * 10), toy(schema={"features": features}))


def test_data_files_are_strict_and_found_by_name(tmp_path: Path) -> None:
    assert DataFile.load("movielens-1m") == DataFile.load("movielens_1m_age") == DataFile.load("movielens-1m-age")
    with pytest.raises(
        DataError, match="movielens-2m: neither a known dataset nor a data file; did you mean movielens-1m"
    ):
        DataFile.load("movielens-2m")
    path = tmp_path / "mine.yaml"
    path.write_text("source: movielens-1m\nsplits: null\nschema: {name: x}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: "):
        DataFile.load(path)
    with pytest.raises(ConfigError, match=r"options: scenarios: .*'age' or 'genre'.*not 'gender'"):
        toy(options={"scenarios": "gender"}).parsed_options()
    with pytest.raises(ValueError, match="fit_until is for data without a split column"):
        toy(split={"random": {}}, fit_until="2024-01-01")
