"""What studies change about prepared rows, against loops over rows; and overlap, against DuckDB."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared_folder import SCHEMA, rows_table, write_prepared
from runs import config_of
from scipy.spatial.distance import cdist

from swrec_prod.data.catalog import Catalog
from swrec_prod.errors import ConfigError, DataError
from swrec_prod.studies.folder import PreparedRows, notes_of
from swrec_prod.studies.overlap import measured
from swrec_prod.studies.rows import RowsChange, changed_rows

ROWS = 3000
DAYS = {"train": "..2024-01-02", "valid": "2024-01-03", "test": "2024-01-04"}
Changed = Callable[..., dict[str, Any]]


def toy_day(first: int) -> pa.Table:
    """Rows whose labels depend on age and on the movie; persons 20 and up in one scenario each."""
    table = rows_table(ROWS, first, seed=2)
    age, movie, person = (table[name].to_numpy() for name in ("age", "movie", "person"))
    draw = np.random.default_rng([5, first])
    scenario = np.where(person < 20, draw.choice(3, ROWS, p=(0.6, 0.25, 0.15)), person % 3)
    logit = 2.0 * (age > 0.3) + 1.5 * (movie % 4 == 0) - 1
    labels = draw.random(ROWS) < 1 / (1 + np.exp(-logit))
    columns = {"label_click": pa.array(labels, pa.int8()), "scenario": pa.array(scenario, pa.int32())}
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values)
    return table.append_column("user", pa.array([f"u{p}" for p in person]))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedRows:
    """Two days of training, one of validation, one of test."""
    days = [toy_day(ROWS * day).drop_columns("split") for day in range(4)]
    folder = write_prepared(tmp_path_factory.mktemp("rows") / "data", days)
    data = config_of(folder).data
    return PreparedRows(Catalog.open(folder), data.model_copy(update={"days": data.days.model_copy(update=DAYS)}))


@pytest.fixture
def changed(prepared: PreparedRows, tmp_path: Path) -> Callable[..., PreparedRows]:
    return lambda **change: changed_rows(prepared, RowsChange(**change), tmp_path)


def columns(rows: PreparedRows, *parts: str) -> dict[str, Any]:
    """All columns of the rows of some parts, as Python values."""
    names = ["row", "scenario", "person", "movie", "age", "history.item", "history.scenario", "label_click", "user"]
    names += [name for name in ("given_scenario",) if name in rows.schema.model_dump_json()]
    return pa.concat_tables([t for part in parts for t in rows.of_part(part, names)]).to_pydict()  # type: ignore[arg-type]


def test_a_limit_takes_about_so_many_rows_of_every_part(changed: Callable[..., PreparedRows]) -> None:
    before, few, fewer = changed(), changed(limit=800), changed(limit=300)
    for part in ("train", "valid", "test"):
        rows = [set(columns(of, part)["row"]) for of in (fewer, few, before)]
        assert rows[0] < rows[1] < rows[2], "of fewer rows, none is another one"
        assert len(rows[0]) == pytest.approx(300, abs=60) and len(rows[1]) == pytest.approx(800, abs=90)


@pytest.mark.parametrize(("name", "index"), [("search", 2), (None, 1)])
def test_thinning_takes_training_rows_of_one_scenario(
    changed: Callable[..., PreparedRows], name: str | None, index: int
) -> None:
    before, after = (columns(of, "train") for of in (changed(), changed(share=0.25, thinned=name)))
    sizes = [np.bincount(of["scenario"], minlength=3) for of in (before, after)]
    others = [s for s in range(3) if s != index]
    assert sizes[1][others].tolist() == sizes[0][others].tolist()
    assert sizes[1][index] / sizes[0][index] == pytest.approx(0.25, abs=0.04)
    judged = [columns(of, "valid", "test") for of in (changed(), changed(share=0.25, thinned=name))]
    assert judged[0] == judged[1]


def test_merged_scenarios_are_the_busiest_and_the_others(changed: Callable[..., PreparedRows]) -> None:
    before, after = columns(changed(), "train", "test"), changed(scenarios=2)
    assert after.schema.scenario.values == ("home", "others")
    renamed = {0: 0, 1: 1, 2: 1}
    rows = columns(after, "train", "test")
    assert rows["scenario"] == [renamed[s] for s in before["scenario"]]
    assert rows["history.scenario"] == [[renamed[s] for s in of] for of in before["history.scenario"]]
    assert rows["history.item"] == before["history.item"]
    traffic = [day.scenarios["others"].rows for day in after.catalog.manifest.days.values()]  # type: ignore[union-attr]
    assert sum(traffic[:2]) == sum(s > 0 for s in columns(changed(), "train")["scenario"])


def test_the_given_scenario_as_a_feature(changed: Callable[..., PreparedRows]) -> None:
    after = changed(keep_given=True, split="one")
    assert after.schema.scenario.values == ("all",) and after.schema.feature("given_scenario").rows == 4
    rows = columns(after, "test")
    assert rows["given_scenario"] == [1 + s for s in columns(changed(), "test")["scenario"]]
    assert set(rows["scenario"]) == {0} and {s for of in rows["history.scenario"] for s in of} == {0}


def test_chance_deals_rows_alike(changed: Callable[..., PreparedRows]) -> None:
    rows = columns(changed(split="random", parts=4), "train")
    assert np.bincount(rows["scenario"]) / len(rows["row"]) == pytest.approx([0.25] * 4, abs=0.03)
    assert abs(np.corrcoef(rows["scenario"], rows["label_click"])[0, 1]) < 0.05


def test_a_row_is_in_the_cluster_whose_training_rows_it_is_nearest_to(changed: Callable[..., PreparedRows]) -> None:
    after = changed(split="cluster", parts=3, columns=["age"])
    train, test = columns(after, "train"), columns(after, "test")
    ages, cluster = np.array(train["age"]), np.array(train["scenario"])
    centres = np.array([ages[cluster == k].mean() for k in range(3)])
    nearest = cdist(np.array(test["age"])[:, None], centres[:, None]).argmin(1)
    assert np.mean(nearest == test["scenario"]) > 0.98, "Lloyd's iterations stop before the last rows have moved"
    assert {s for of in test["history.scenario"] for s in of} == {3}, "of behaviours it is not known"


def test_a_tree_finds_what_the_labels_depend_on(changed: Callable[..., PreparedRows]) -> None:
    after = changed(split="tree", parts=4)
    rules = notes_of(after.catalog.root)[0]["leaves"]
    rows = columns(after, "train", "test")
    by_hand = {(a > 0.3, m % 4 == 0): set() for a in (0, 1) for m in (0, 1)}
    for age, movie, leaf in zip(rows["age"], rows["movie"], rows["scenario"], strict=True):
        if abs(age - 0.3) > 0.1:  # where its edge lies depends on the rows
            by_hand.setdefault((age > 0.3, movie % 4 == 0), set()).add(leaf)
    leaves = [tuple(of) for of in by_hand.values() if of]
    assert sorted(map(len, leaves)) == [1, 1, 1, 1] and len(set(leaves)) == 4, rules
    assert all("age" in rule and "movie in ids" in rule for rule in rules)


@pytest.mark.parametrize("key", ["common_users", "common_items"])
@pytest.mark.parametrize("common", [0.0, 0.5])
def test_ids_are_apart_by_scenario(changed: Callable[..., PreparedRows], key: str, common: float) -> None:
    name = "person" if key == "common_users" else "movie"
    before, after = changed(), changed(**{key: common})
    ids = set(columns(before, "train")[name])
    pairs: dict[int, tuple[int, int]] = {}
    stay: set[int] = set()
    for old, new, scenario in _ids(before, after, name, "train"):
        if old == new:
            stay.add(old)
        else:
            assert pairs.setdefault(new, (old, scenario)) == (old, scenario)
    assert len(set(pairs.values())) == len(pairs) and not stay & {old for old, _ in pairs.values()}
    assert len(stay - {0}) / len(ids) == pytest.approx(common, abs=0.25) and (common > 0 or stay == {0})
    known = {pair: new for new, pair in pairs.items()} | {(old, s): old for old in stay for s in range(4)}
    for old, new, scenario in _ids(before, after, name, "test"):
        assert new == known.get((old, scenario), 0)
    height = {f.name: f.rows for f in after.schema.features}
    assert height[name] == max(ids) + 1 + len(pairs) and (name != "movie" or height["history"] == height[name])


def _ids(before: PreparedRows, after: PreparedRows, name: str, part: str) -> list[tuple[int, int, int]]:
    """(id before, id after, scenario) of all rows, and of items of behaviours."""
    old, new = columns(before, part), columns(after, part)
    found = list(zip(old[name], new[name], old["scenario"], strict=True))
    if name == "movie" and part == "test":
        for lists in zip(old["history.item"], new["history.item"], old["history.scenario"], strict=True):
            found += zip(*lists, strict=True)
    return found


def test_overlap_is_what_sql_counts(prepared: PreparedRows) -> None:
    paths = [str(file.path) for file in prepared.catalog.files[:2]]
    query = """SELECT a.scenario, b.scenario, count(DISTINCT a.{key}) FROM read_parquet($paths) a
               JOIN read_parquet($paths) b ON a.{key} = b.{key} GROUP BY ALL ORDER BY ALL"""
    for what, key in (("users", "person"), ("items", "movie")):
        overlap = measured(prepared)[what]
        counted = duckdb.execute(query.format(key=key), {"paths": paths}).fetchall()
        expected = np.zeros((3, 3), int)
        for a, b, n in counted:
            expected[a, b] = n
        assert overlap.shared_SS.tolist() == expected.tolist()
        several = f"""SELECT scenario, count(DISTINCT {key}) FROM read_parquet($paths) WHERE {key} IN (SELECT {key}
                      FROM read_parquet($paths) GROUP BY 1 HAVING count(DISTINCT scenario) > 1) GROUP BY 1 ORDER BY 1"""
        assert [n for _, n in duckdb.execute(several, {"paths": paths}).fetchall()] == overlap.elsewhere_S.tolist()
    assert overlap.jaccard_SS[0, 1] == expected[0, 1] / (expected[0, 0] + expected[1, 1] - expected[0, 1])


def test_what_is_made_is_taken_as_it_is_and_what_is_damaged_is_refused(prepared: PreparedRows, tmp_path: Path) -> None:
    change = RowsChange(limit=300)
    first = changed_rows(prepared, change, tmp_path).catalog.root
    written = (first / "manifest.json").stat().st_mtime_ns
    assert changed_rows(prepared, change, tmp_path).catalog.root == first
    assert (first / "manifest.json").stat().st_mtime_ns == written
    part = next(first.glob("day=*/*.parquet"))
    pq.write_table(pq.read_table(part, partitioning=None).slice(0, 5), part)
    with pytest.raises(DataError, match="cut short"):
        changed_rows(prepared, change, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 0.5, "thinned": "serch"}, r"rows.thinned: 'serch' is no scenario of .*did you mean search"),
        ({"scenarios": 5}, r"rows.scenarios: 5, and .* has 3 scenarios"),
        ({"split": "tree", "columns": ["histry"]}, r"rows.columns: 'histry' is no number"),
    ],
)
def test_what_data_do_not_allow(changed: Callable[..., PreparedRows], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(**change)


def test_rows_that_are_dealt_stay_in_their_parts(tmp_path: Path) -> None:
    folder = write_prepared(tmp_path / "data", [toy_day(0)])
    rows = PreparedRows(Catalog.open(folder), config_of(folder).data)
    after = changed_rows(rows, RowsChange(limit=200), tmp_path / "changed")
    sizes = {part: len(columns(after, part)["row"]) for part in ("train", "valid", "test")}
    assert after.catalog.manifest.splits == sizes and SCHEMA.user == "person"  # type: ignore[union-attr]
    assert set(columns(after, "test")["row"]) < set(columns(rows, "test")["row"])
