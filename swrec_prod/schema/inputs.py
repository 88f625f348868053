"""What derived columns are made of, and so what a request carries of each row.

    a feature that is not derived        under the feature's name, on its side
    a raw column of a derived feature    under its own name, once where a feature of that name reads it too; else on the
                                         side of the derived features: item where one of them is of the item
    the time column                      as `time`, int64 microseconds since 1970, once a request
    the scenario column                  is the request's scenario, and no column

So a name means the same whichever of the features a model was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from swrec_prod.schema.derived import Derived
from swrec_prod.schema.feature import RESERVED, Feature, Side

TIME = "time"


class Input(NamedTuple):
    """A column of requests. name: there. column: of the raw log. feature: that reads it; None: derived ones do."""

    name: str
    column: str
    side: Side
    feature: Feature | None

    @property
    def is_raw(self) -> bool:
        """Whether derived columns are computed of it."""
        return self.feature is None or self.name == self.column


def made_of(column: str, derived: Sequence[Derived], time: str) -> tuple[str, ...]:
    """`column` and, of a derived one, all that it is computed from, derived or raw, once each. time: its column."""
    own = next((d for d in derived if d.name == column), None)
    inner = [name for of in own.reads(time) for name in made_of(of, derived, time)] if own else []
    return tuple(dict.fromkeys([column, *inner]))


def raw_of(column: str, derived: Sequence[Derived], time: str) -> tuple[str, ...]:
    """The columns of the raw log among `made_of`."""
    names = {d.name for d in derived}
    return tuple(name for name in made_of(column, derived, time) if name not in names)


def inputs_of(features: Sequence[Feature], derived: Sequence[Derived], time: str, scenario: str) -> tuple[Input, ...]:
    """The columns of a request, those of features first; sequences bring their own. scenario: its column."""
    names = {d.name for d in derived}
    read = [(name, column, feature) for feature in features for name, column in feature.raw_columns.items()]
    plain = [Input(name, column, feature.side, feature) for name, column, feature in read if column not in names]
    sent = {scenario, *(given.column for given in plain if given.name == given.column)}
    more: dict[str, Input] = {}
    for _, source, feature in (one for one in read if one[1] in names):
        for column in raw_of(source, derived, time):
            if column == time and column not in sent:
                more[column] = Input(TIME, column, "user", None)
            elif column not in sent and (column not in more or feature.side == "item"):
                more[column] = Input(column, column, feature.side, None)
    return (*plain, *more.values())


def item_columns(
    features: Sequence[Feature], derived: Sequence[Derived], inputs: Sequence[Input], time: str
) -> frozenset[str]:
    """The columns of features that have a value for each candidate; all others have one a request.

    Those of side item, but a derived one by what it is computed of: any input of side item. inputs: as inputs_of says.
    """
    names = {d.name for d in derived}
    of_item = {given.column for given in inputs if given.is_raw and given.side == "item"}
    read = [(name, column, f.side) for f in features for name, column in (f.raw_columns or {f.name: f.name}).items()]
    return frozenset(
        name
        for name, column, side in read
        if (of_item.intersection(raw_of(column, derived, time)) if column in names else side == "item")
    )


def check_inputs(inputs: Sequence[Input], features: Sequence[Feature]) -> None:
    """Raises ValueError where a raw column that requests carry has the name of something else in them."""
    taken = {feature.name for feature in features}
    for given in inputs:
        clash = given.name in taken or given.name in RESERVED or given.name.startswith("label_")
        if given.feature is None and clash and given != Input(TIME, given.column, "user", None):
            what = "a feature of another column" if given.name in taken else "a column that every request has"
            wrong = f"column {given.name!r}, which derived features are computed of, has the name of {what}"
            raise ValueError(f"{wrong}; rename it in the log, or read it by a feature too")
