"""Negatives: what is drawn, against a search through the log in plain Python; and that no later row changes it."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from swrec_prod.engine.contract import Engine
from swrec_prod.negatives.options import Negatives
from swrec_prod.negatives.rows import Drawn, negatives
from swrec_prod.schema import FeatureSchema

pytestmark = pytest.mark.engine

DAY_US = 86_400_000_000
SCHEMA = FeatureSchema.model_validate(
    {
        "name": "positives",
        "time": "at",
        "user": "who",
        "labels": [{"name": "click", "column": "clicked"}, {"name": "liked", "column": "stars", "above": 3}],
        "features": [
            {"name": "item", "kind": "id", "side": "item", "column": "thing", "encoder": "vocab"},
            {"name": "price", "kind": "dense", "side": "item", "encoder": "standard"},
            {"name": "tags", "kind": "bag", "side": "item", "encoder": "vocab"},
            {"name": "device", "kind": "id", "side": "context", "encoder": "vocab"},
        ],
    }
)
OPTIONS = st.builds(
    Negatives,
    per_positive=st.integers(1, 3),
    pool=st.sampled_from(["scenario", "all"]),
    weighting=st.sampled_from(["uniform", "popularity"]),
    seed=st.integers(0, 9),
)
Row = dict[str, Any]


def log(seed: int, rows: int = 60, users: int = 6, items: int = 12) -> pa.Table:
    """Events of three days as etl.standard gives them; some at one time, some without an item, price or tags."""
    draw = np.random.default_rng(seed)
    at = np.sort(draw.integers(0, 3 * 24, rows)) * (DAY_US // 24)
    clicked, stars = draw.integers(0, 2, rows), draw.integers(1, 6, rows)
    return pa.table(
        {
            "_row": draw.permutation(rows),
            "_day": at // DAY_US,
            "at": at,
            "who": [f"u{i}" for i in draw.integers(0, users, rows)],
            "scenario": [["home", "cart"][i] for i in draw.integers(0, 2, rows)],
            "thing": pa.array([f"i{i}" for i in draw.integers(0, items, rows)], mask=draw.random(rows) < 0.1),
            "price": pa.array(draw.random(rows), mask=draw.random(rows) < 0.2),
            "tags": [[None, ["a"], ["b", None]][i] for i in draw.integers(0, 3, rows)],
            "device": [["tv", "web"][i] for i in draw.integers(0, 2, rows)],
            "clicked": clicked,
            "stars": stars,
            "_label_liked": (stars > 3).astype(np.int8),
        }
    )


def draw_from(engine: Engine, table: pa.Table, options: Negatives, days: list[int] | None = None) -> Drawn:
    return negatives(engine, engine.from_arrow(table), "_day", days, SCHEMA, options)


def drawn_rows(engine: Engine, table: pa.Table, options: Negatives, days: list[int] | None = None) -> pa.Table:
    return engine.arrow(draw_from(engine, table, options, days).rows.order_by("_row"))


def positives_of(events: list[Row]) -> dict[int, Row]:
    return {row["_row"]: row for row in events if row["clicked"] == 1 or row["stars"] > 3}


def may_be_drawn(events: list[Row], positive: Row, options: Negatives) -> set[str]:
    """The items that exist at a positive's moment and that its user has not met by then."""
    past = [row for row in events if row["at"] <= positive["at"] and row["thing"] is not None]
    met = {row["thing"] for row in past if row["who"] == positive["who"]}
    of_pool = [row for row in past if options.pool == "all" or row["scenario"] == positive["scenario"]]
    return {row["thing"] for row in of_pool} - met


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), options=OPTIONS)
def test_what_is_drawn_was_there_and_not_met(local_engine: Engine, seed: int, options: Negatives) -> None:
    events = log(seed).to_pylist()
    positives = positives_of(events)
    made = drawn_rows(local_engine, log(seed), options).to_pylist()
    items, moments = defaultdict(list), defaultdict(list)
    for row in made:
        positive = positives[(-1 - row["_row"]) // options.per_positive]
        items[positive["_row"]].append(row["thing"])
        moments[row["scenario"], row["who"], row["at"]].append(row["thing"])
        latest = max((e["at"], e["_row"]) for e in events if e["thing"] == row["thing"] and e["at"] <= row["at"])
        source = next(e for e in events if e["_row"] == latest[1])
        assert (row["price"], row["tags"]) == (source["price"], source["tags"])
        kept = ("_day", "at", "who", "scenario", "device")
        assert [row[name] for name in kept] == [positive[name] for name in kept]
        assert (row["clicked"], row["stars"], row["_label_liked"]) == (0, None, 0)
    assert len({row["_row"] for row in made}) == len(made)
    assert all(len(things) == len(set(things)) for things in moments.values())
    together = Counter((row["scenario"], row["who"], row["at"]) for row in positives.values())
    for number, positive in positives.items():
        possible = may_be_drawn(events, positive, options)
        assert set(items[number]) <= possible
        alone = together[positive["scenario"], positive["who"], positive["at"]] == 1
        if alone:  # else rows of one moment share what there is
            assert len(items[number]) == min(len(possible), options.per_positive)


@settings(deadline=None, max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), options=OPTIONS)
def test_later_rows_and_the_order_of_rows_change_nothing(local_engine: Engine, seed: int, options: Negatives) -> None:
    table = log(seed)
    whole = drawn_rows(local_engine, table, options)
    until = table.filter(pa.compute.less(table["_day"], 2))
    shuffled = until.take(np.random.default_rng(seed).permutation(len(until)))
    first_days = whole.filter(pa.compute.less(whole["_day"], 2))
    assert drawn_rows(local_engine, shuffled, options).equals(first_days)
    second = first_days.filter(pa.compute.equal(first_days["_day"], 1))
    assert drawn_rows(local_engine, until, options, [1]).equals(second)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("pool", "weighting"), [("scenario", "uniform"), ("all", "popularity")])
def test_both_engines_draw_the_same(engines: tuple[Engine, Engine], weighting: Any, pool: Any) -> None:
    options = Negatives(per_positive=2, pool=pool, weighting=weighting)
    table = log(3, rows=150)
    table = table.set_column(0, "_row", pa.array(np.arange(150) * (2**32 + 7)))  # as of dated logs, large
    local, cluster = (drawn_rows(engine, table, options) for engine in engines)
    assert len(local) > 50 and cluster.cast(local.schema).equals(local)  # small numbers are wider on the cluster


@pytest.mark.parametrize("weighting", ["uniform", "popularity"])
def test_weightings_are_what_they_say(local_engine: Engine, weighting: Any) -> None:
    """Users without a past ask at one moment: their draws are as often of an item as its weight says."""
    events, items = 4_000, 20
    seen = np.random.default_rng(5).choice(items, events, p=np.arange(1, items + 1) / (items * (items + 1) / 2))
    at, who = [0] * events + [DAY_US] * events, ["old"] * events + [f"new{i}" for i in range(events)]
    things = [f"i{i}" for i in seen] + ["asked"] * events
    clicked = [0] * events + [1] * events
    nothing = {"price": [0.5] * 2 * events, "tags": [["a"]] * 2 * events, "device": ["tv"] * 2 * events}
    table = pa.table({"_row": range(2 * events), "_day": [0] * events + [1] * events, "at": at, "who": who,
                      "scenario": ["home"] * 2 * events, "thing": things, **nothing, "clicked": clicked,
                      "stars": [1] * 2 * events, "_label_liked": pa.array([0] * 2 * events, pa.int8())})  # fmt: skip
    made = drawn_rows(local_engine, table, Negatives(per_positive=2, weighting=weighting))
    assert len(made) == 2 * events
    weight = np.ones(items) if weighting == "uniform" else np.bincount(seen, minlength=items)
    number = np.array([int(thing[1:]) for thing in made["thing"].to_pylist()])
    first = number[np.array([(-1 - row) % 2 == 0 for row in made["_row"].to_pylist()])]
    expected = weight / weight.sum() * events
    assert stats.chisquare(np.bincount(first, minlength=items), expected).pvalue > 0.001
    both = number.reshape(-1, 2)  # the second is another item, and otherwise knows nothing of the first
    assert (both[:, 0] != both[:, 1]).all()
    if weighting == "uniform":
        apart = np.bincount((both[:, 0] - both[:, 1]) % items, minlength=items)[1:]
        assert stats.chisquare(apart).pvalue > 0.001
    other = drawn_rows(local_engine, table, Negatives(per_positive=2, weighting=weighting, seed=2))
    same = np.mean([one == two for one, two in zip(made["thing"].to_pylist(), other["thing"].to_pylist(), strict=True)])
    assert same < 0.2


def test_rows_without_enough_items_are_counted(local_engine: Engine) -> None:
    table = log(1).slice(0, 8)
    options = Negatives(per_positive=3)
    result = draw_from(local_engine, table, options)
    positives = positives_of(table.to_pylist())
    counts = Counter((-1 - row) // 3 for row in local_engine.arrow(result.rows)["_row"].to_pylist())
    assert (result.wanted, result.made) == (len(positives), counts.total())
    assert result.short == sum(counts[number] < 3 for number in positives)
    assert result.without == len(positives) - len(counts)
    assert f"{result.without:,} of them none" in result.summary
