"""Users and items that scenarios no longer share, though their rows stay: what knowing them as one is worth.

An id that is kept apart becomes another id in each scenario, of those (id, scenario) that training rows have; one that
they do not have is unknown, as in any vocabulary. Behaviours have the item's id of the scenario that they happened in,
and a user keeps all of them. What else is known of users and items stays common.

Shapes: N rows, S scenarios, V ids of a table.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from swrec_prod.data.day_files import item_feature
from swrec_prod.errors import ConfigError
from swrec_prod.schema import Feature, FeatureSchema
from swrec_prod.studies.columns import drawn, elements_of, replaced_column, with_elements
from swrec_prod.studies.folder import PreparedRows, Step


class Apart(NamedTuple):
    """How the ids of one feature become others. pairs: id * (S + 1) + scenario of each new id, rising; apart_V: which
    ids are kept apart; histories: the sequences of such ids.
    """

    feature: Feature
    pairs: np.ndarray
    apart_V: np.ndarray
    scenarios: int
    histories: tuple[str, ...]

    @classmethod
    def of(cls, rows: PreparedRows, feature: Feature, common: float) -> Apart:
        """common: share of the ids that stay one in all scenarios; row 0, of unknown values, always does."""
        assert feature.rows is not None, "prepared features have the height of their table"
        apart_V = drawn(np.arange(feature.rows), f"{feature.name}") >= common
        apart_V[0] = False
        histories = tuple(f.name for f in rows.schema.of_kind("sequence") if f.item == feature.name)
        made = cls(feature, np.zeros(0, np.int64), apart_V, rows.schema.scenario.size, histories)
        seen = rows.training([feature.name, "scenario"])
        ids_N = seen[feature.name].to_numpy()
        pairs = made.pair(ids_N, seen["scenario"].to_numpy())[apart_V[ids_N]]
        return made._replace(pairs=np.unique(pairs))

    @property
    def height(self) -> int:
        """Ids of the new table."""
        return len(self.apart_V) + len(self.pairs)

    def pair(self, ids_N: np.ndarray, scenario_N: np.ndarray) -> np.ndarray:
        """A number for each (id, scenario): int64 [N]."""
        return ids_N.astype(np.int64) * (self.scenarios + 1) + scenario_N

    def moved(self, ids_N: np.ndarray, scenario_N: np.ndarray) -> np.ndarray:
        """The new ids: [N]."""
        pairs_N = self.pair(ids_N, scenario_N)
        at_N = np.searchsorted(self.pairs, pairs_N).clip(max=max(len(self.pairs) - 1, 0))
        known_N = self.pairs[at_N] == pairs_N if len(self.pairs) else np.zeros(len(pairs_N), bool)
        return np.where(self.apart_V[ids_N], np.where(known_N, len(self.apart_V) + at_N, 0), ids_N)

    def table(self, table: pa.Table) -> pa.Table:
        """Rows with the new ids."""
        name, scenario_N = self.feature.name, table["scenario"].to_numpy()
        table = replaced_column(table, name, pa.array(self.moved(table[name].to_numpy(), scenario_N)))
        for history in self.histories:
            happened_in = elements_of(table[f"{history}.scenario"])
            items = with_elements(table[f"{history}.item"], partial(self.moved, scenario_N=happened_in))
            table = replaced_column(table, f"{history}.item", items)
        return table


def kept_apart(rows: PreparedRows, common_users: float, common_items: float) -> Step:
    """Shares of users and of items that stay common to all scenarios.

    Raises ConfigError where the data have no id of users or items.
    """
    schema = rows.schema
    wanted = {"common_users": (_user(schema), common_users), "common_items": (item_feature(schema), common_items)}
    kept = []
    for key, (feature, common) in wanted.items():
        if common < 1 and feature is None:
            raise ConfigError(f"rows.{key}: {rows.catalog.root} has no id feature of them")
        if common < 1 and feature is not None:
            kept.append(Apart.of(rows, feature, common))

    def move(table: pa.Table, part_N: np.ndarray) -> pa.Table:
        for apart in kept:
            table = apart.table(table)
        return table

    heights = {apart.feature.name: apart.height for apart in kept}
    features = tuple(
        f.model_copy(update={"rows": heights[f.table]}) if f.kind != "dense" and f.table in heights else f
        for f in schema.features
    )
    notes = {apart.feature.name: {"apart": int(apart.apart_V.sum()), "ids": apart.height} for apart in kept}
    return Step(schema.with_features(features), move, notes)


def _user(schema: FeatureSchema) -> Feature | None:
    return next((f for f in schema.of_kind("id") if f.source == schema.user), None)
