"""Encoders of small Arrow tables, fitted as prepare fits them; vocabularies and scalers of a few values."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.lookups import Vocabulary
from swrec_prod.encoding.scaler import Scaler
from swrec_prod.engine.local import LocalEngine
from swrec_prod.prepare import etl
from swrec_prod.prepare.fit import fit
from swrec_prod.prepare.profile import Profile
from swrec_prod.schema import FeatureSchema


def fit_encoders(schema: FeatureSchema, table: pa.Table, training: np.ndarray | None = None) -> Encoders:
    """Encoders of the rows where `training`, bool [N], is True (None: of all), by the local engine.

    Scenario values, where the schema has none, are those of all rows. table: the columns that the schema names [N],
    and to find scenario values `row` too.
    """
    with tempfile.TemporaryDirectory() as scratch, closing(LocalEngine(Path(scratch), 1)) as local:
        if not schema.scenario.values:
            in_one_hour = table.append_column(etl.HOUR, pa.array(np.zeros(len(table), np.int64)))
            if etl.ROW not in table.column_names:
                in_one_hour = in_one_hour.append_column(etl.ROW, table["row"])
            profile = Profile(local.arrow(etl.profile(local.from_arrow(in_one_hour), schema)), schema)
            schema = schema.with_scenarios(tuple(profile.scenarios()))
        training_rows = table if training is None else table.filter(pa.array(training))
        return fit(local, local.from_arrow(training_rows), schema)


def vocabulary_of(values: pa.Array) -> Vocabulary:
    """The vocabulary of string or int64 values [N], nulls left out."""
    counted = pc.value_counts(values.drop_null())
    return Vocabulary.of_counts(pa.table({"value": counted.field(0), "count": counted.field(1)}), min_count=1)


def scaler_of(
    kind: Literal["standard", "minmax", "log1p"], values: Sequence[float | None], clip: bool = False
) -> Scaler:
    """The scaler of numbers, missing ones left out."""
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return Scaler.of(kind, None, None, None, None)
    terms = np.log1p(known) if kind == "log1p" else known
    return Scaler.of(kind, terms.mean(), terms.std(), known.min(), known.max(), clip)
