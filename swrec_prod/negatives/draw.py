"""Which items are drawn for which rows, as Ibis expressions for every engine.

    numbered    the log, narrow: where each event stands in the pool that items are drawn from
    drawn       the items that some of its rows get

The pool is the first events of items (uniform) or all events (popularity), in order of time: what exists at a moment is
its first `known` events, so that a draw is a number below `known`, and nothing later can change it.

Nothing here is evaluated, and nothing knows which engine will do it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis
import numpy as np
import pyarrow as pa
from ibis import _

from swrec_prod.engine.contract import Engine
from swrec_prod.negatives.options import Negatives

if TYPE_CHECKING:
    from collections.abc import Callable

    import ibis.expr.types as ir

    Evaluated = Callable[[ir.Table], ir.Table]  # evaluates once, and keeps the result for as long as it is needed

PRIME = 2**31 - 1  # products of two smaller numbers fit into int64 on every engine
ROUNDS = (2, 8, 32)  # tries an item that is wanted; a round is for rows for which the one before found too few
SEARCHED = 200  # in the last round also so many neighbours in the pool, in turn
MOMENT = ("scenario", "user", "time")  # what rows of one moment share; an item is drawn once for all of them


def numbered(log: ir.Table, options: Negatives) -> ir.Table:
    """`log` (row, day, time, user, scenario, item, positive) with `known`, how large the pool is at the row's moment;
    `place` of the events in it, from 0; `of_item`, the row's place among all of its item's.
    """
    where = ["scenario"] if options.pool == "scenario" else []
    in_order = ["time", "row"]
    is_item = log.item.notnull()
    first = ibis.row_number().over(ibis.window(group_by=["item", *where], order_by=in_order)) == 0
    pooled = is_item & first if options.weighting == "uniform" else is_item
    rows = log.mutate(
        pooled=pooled.cast("int64"),
        of_item=ibis.row_number().over(ibis.window(group_by="item", order_by=in_order)),
    )
    so_far = ibis.range_window(preceding=None, following=0, group_by=where, order_by="time")
    one_by_one = ibis.rows_window(preceding=None, following=0, group_by=where, order_by=in_order)
    rows = rows.mutate(known=rows.pooled.sum().over(so_far), place=rows.pooled.sum().over(one_by_one) - 1)
    return rows.mutate(place=ibis.ifelse(rows.pooled == 1, rows.place, ibis.null("int64"))).drop("pooled")


def drawn(engine: Engine, evaluated: Evaluated, log: ir.Table, wanted: ir.Table, options: Negatives) -> ir.Table:
    """row, time, item and nth (from 0, below `per_positive`) for the rows `wanted` of `log`.

    log: `numbered`, evaluated. Rows of one moment never share an item. A row has fewer where ROUNDS of tries, the last
    with a look at SEARCHED items in turn, find no more that its user had not met, up to and with that moment.
    """
    asking = wanted.filter(wanted.known > 0)
    asking = evaluated(asking.select("row", *MOMENT, "known", **_mixed(asking.row, options.seed)))
    complete: list[ir.Table] = []
    for tries in ROUNDS:
        items = evaluated(_found(engine, log, asking, options, tries))
        if tries == ROUNDS[-1]:
            break
        rest = evaluated(asking.semi_join(_short(asking, items, options.per_positive), MOMENT))
        complete.append(items.anti_join(rest, MOMENT))
        asking = rest
    return evaluated(ibis.union(*complete, items).select("row", "time", "item", "nth"))


def _short(asking: ir.Table, items: ir.Table, per_positive: int) -> ir.Table:
    """MOMENT of the rows that have fewer items than they ask for."""
    wanted = asking.group_by(*MOMENT).agg(wanted=_.count() * per_positive)
    both = wanted.left_join(items.group_by(*MOMENT).agg(there=_.count()), MOMENT, rname="{name}_there")
    return both.filter(both.there.fill_null(0) < both.wanted).select(*MOMENT)


def _found(engine: Engine, log: ir.Table, asking: ir.Table, options: Negatives, rounds: int) -> ir.Table:
    """row, nth, item and MOMENT of what the tries find."""
    tries = asking.cross_join(engine.from_arrow(_tries(options, rounds)))
    tries = tries.filter(tries.step < tries.known)  # the pool is searched once
    line = (tries.one * tries.a + tries.two * tries.b + tries.c) % PRIME
    at = ibis.ifelse(tries.step < 0, line, tries.one + tries.step)
    tries = tries.select("row", *MOMENT, "number", place=at % tries.known)
    where = ["place", "scenario"] if options.pool == "scenario" else ["place"]
    items = tries.join(log.filter(log.place.notnull()).select(*where, "item"), where)
    items = items.select("row", *MOMENT, "number", "item")
    met = log.filter(log.item.notnull()).group_by("user", "item").agg(met=_.time.min())
    items = items.left_join(met, ["user", "item"], rname="{name}_met")
    items = items.filter((items.met > items.time).fill_null(True)).select("row", *MOMENT, "number", "item")
    same = ibis.window(group_by=[*MOMENT, "item"], order_by=["number", "row"])
    items = items.mutate(copy=ibis.row_number().over(same)).filter(_.copy == 0).drop("copy")
    items = items.mutate(nth=ibis.row_number().over(ibis.window(group_by="row", order_by="number")))
    return items.filter(_.nth < options.per_positive).drop("number")


def _tries(options: Negatives, rounds: int) -> pa.Table:
    """`number` of each try, and how it makes a place of a row's random numbers: by a line (`a`, `b`, `c`), whose places
    are independent for two tries, or, with `step` from 0, one after the other.
    """
    searched = SEARCHED if rounds == ROUNDS[-1] else 0
    step = np.concatenate([np.full(rounds * options.per_positive, -1), np.arange(searched)])
    lines = np.random.default_rng([options.seed, 1]).integers(1, PRIME, (len(step), 3)).T
    columns = {"number": np.arange(len(step)), "step": step, **dict(zip("abc", lines, strict=True))}
    return pa.table({name: pa.array(values, pa.int64()) for name, values in columns.items()})


def _mixed(row: ir.IntegerValue, seed: int) -> dict[str, ir.IntegerValue]:
    """Two numbers in [0, PRIME) that look random, the same for a row number on every engine: powers of 5, which no two
    numbers below PRIME share, as in the hash MiMC (Albrecht et al., ASIACRYPT 2016).
    """
    keys = np.random.default_rng([seed, 0]).integers(0, PRIME, 4).tolist()
    low, high = row % PRIME, row % (PRIME - 18)  # together they tell row numbers below 2^61 apart
    return {
        "one": _fifth_power(_fifth_power(low + keys[0]) + high + keys[1]),
        "two": _fifth_power(_fifth_power(high + keys[2]) + low + keys[3]),
    }


def _fifth_power(number: ir.IntegerValue) -> ir.IntegerValue:
    rest = number % PRIME
    square = rest * rest % PRIME
    return square * square % PRIME * rest % PRIME
