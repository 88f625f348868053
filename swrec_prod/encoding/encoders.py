"""Raw values -> ids and numbers: the only encoder, for prepare, export and the server alike.

What it knows is a folder: `schema.yaml` (resolved: scenario values and table heights filled in),
`vocab/<table>.parquet` (id, value, count) and `vocab/encoders.json` (scalers, the raw types of hashed tables, fitted
boundaries). A prepared dataset and an exported package are both such folders.

Types are strict: a vocabulary fitted on strings takes strings, one fitted on integers takes integers. An integer given
for a string is an error rather than an unknown value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.encoding.derived import DerivedColumns
from swrec_prod.encoding.lookup_table import LookupTable, load_lookups
from swrec_prod.encoding.lookups import Buckets, Hashing, RawType, Table, Vocabulary
from swrec_prod.encoding.pack import Column, Ragged
from swrec_prod.encoding.raw_values import Values, floats, lists
from swrec_prod.encoding.scaler import Scaler
from swrec_prod.encoding.vectors import vectors, weights
from swrec_prod.errors import DataError, nearest, shown
from swrec_prod.files import replaced
from swrec_prod.schema import Encoder, Feature, FeatureSchema

STATE = "encoders.json"
QUANTILES = "quantiles"  # in it: the fitted boundaries


class Encoders:
    """schema: resolved. tables: by Feature.table; scalers: by the name of the feature or field that has one of its own
    (FeatureSchema.owners and .scaled). lookups: by the name of the derived column.
    """

    def __init__(
        self,
        schema: FeatureSchema,
        tables: dict[str, Table],
        scalers: dict[str, Scaler],
        lookups: Mapping[str, LookupTable] | None = None,
    ) -> None:
        self.schema = schema
        self.derived = DerivedColumns(schema, lookups or {})
        self.tables = tables
        self.scalers = scalers
        parts = (part for parts in schema.parts.values() for part in parts)
        self._features = {feature.name: feature for feature in (*schema.features, *parts)}
        self._inputs = {given.name: given.column for given in schema.inputs} | {"scenario": schema.scenario.column}
        names = pa.array(schema.scenario.values, pa.string())
        self._scenarios = Vocabulary(names, pa.array(np.zeros(len(names), np.int64)))

    @classmethod
    def of_counts(
        cls,
        schema: FeatureSchema,
        counts: Mapping[str, pa.Table],
        boundaries: Mapping[str, Sequence[float]],
        scalers: dict[str, Scaler],
        lookups: Mapping[str, LookupTable] | None = None,
    ) -> Encoders:
        """From what was fitted. schema: with its scenario values.

        counts: the counted values (`value`, `count`) of every vocabulary and hashed table; those of a hashed one are
        there for their type only. boundaries: of every table of quantiles, rising.
        """
        tables = {owner.name: _table(owner, counts, boundaries) for owner in schema.owners}
        return cls(_resolved(schema, tables), tables, scalers, lookups)

    def extended(self, counts: Mapping[str, pa.Table]) -> Encoders:
        """With ids for the values in `counts` (`value`, `count` by table) that are unknown so far; no id moves."""
        tables = dict(self.tables)
        for owner in self.schema.owners:
            known = tables[owner.name]
            if isinstance(known, Vocabulary):
                tables[owner.name] = known.extended(counts[owner.name], _encoder(owner).min_count)
        return Encoders(_resolved(self.schema, tables), tables, self.scalers, self.derived.lookups)

    def encode(self, name: str, values: Values) -> Column:
        """The values of one feature for N rows:
        a pyarrow array, a numpy array or a list (of lists for bags and sequences).

        Returns int32 [N] ids, float32 [N] numbers, float32 [N, width] vectors, or Ragged int32 ids over N rows for bags
        and sequences (the items). Raises DataError naming the feature for a value of the wrong type, SchemaError for an
        unknown feature.
        """
        feature = self._feature(name)
        if feature.kind == "vector":
            assert feature.width is not None  # the schema gives every vector one
            return vectors(values, feature.width, self.scalers.get(name), name)
        if feature.kind == "dense":
            return self.scalers[feature.table](values, name)
        table = self.tables[feature.table]
        if feature.kind == "id":
            return table(values, name)
        elements, offsets = lists(values, name)
        return Ragged(table(elements, name), offsets)

    def columns_of(self, name: str, raw: Mapping[str, Values]) -> dict[str, Column]:
        """All prepared columns of one feature for N rows: `<name>`, and `<name>.weight` or `<name>.missing` where it
        has them (schema/__init__.py).

        raw: its raw columns, by the names that they have in requests (Feature.raw_columns). Raises as `encode` does,
        and DataError for weights that are not one number >= 0 for each value.
        """
        feature = self._feature(name)
        columns = {name: self.encode(name, raw[name])}
        if feature.weights:
            part = f"{name}.weight"
            columns[part] = weights(raw[part], columns[name], part)  # type: ignore[arg-type]
        if feature.missing_indicator:
            columns[f"{name}.missing"] = np.isnan(floats(raw[name], name)).astype(np.float32)
        return columns

    def with_derived(self, raw: Mapping[str, Values]) -> dict[str, Values]:
        """`raw`, named as in requests (FeatureSchema.inputs and `scenario`), and the values of those derived features
        whose inputs it has, by the names of Feature.raw_columns. Raises as DerivedColumns does.
        """
        given = {column: raw[name] for name, column in self._inputs.items() if name in raw}
        made = self.derived(given) if self.schema.derived else {}
        of_features = {name: column for f in self.schema.features for name, column in f.raw_columns.items()}
        return {**raw, **{name: made[column] for name, column in of_features.items() if column in made}}

    def encode_scenario(self, values: Values) -> np.ndarray:
        """Scenario indices, int64 [N]. An unseen value has the fallback index, or is a DataError naming it."""
        index = self._scenarios(values, "scenario").astype(np.int64) - 1
        unseen = index < 0
        if unseen.any():
            if self.schema.scenario.unseen == "error":
                value = values[int(np.argmax(unseen))]
                value = value.as_py() if isinstance(value, pa.Scalar) else value
                raise DataError(
                    f"scenario {shown(value)} is unknown; {nearest(str(value), self.schema.scenario.values)}"
                )
            index[unseen] = len(self.schema.scenario.values)
        return index

    def encode_behaviour_scenario(self, values: Values, *, elsewhere: bool) -> np.ndarray:
        """Scenario indices of behaviours, int64 [N]; S where one has none.

        elsewhere: they may have happened in scenarios that the schema does not list (index S); otherwise such a value
        is the fallback or an error, as for rows.
        """
        index = self._scenarios(values, "scenario").astype(np.int64) - 1
        unseen = index < 0
        if unseen.any():
            named = unseen & ~_is_missing(values)
            index[unseen] = self.schema.scenario.size
            if named.any() and not (elsewhere and self.schema.scenario.unseen == "error"):
                index[named] = self.encode_scenario(_plain(values, named))
        return index

    def select(self, names: tuple[str, ...]) -> Encoders:
        """The encoders of the features in `names` only, and of the tables that those share (FeatureSchema.select)."""
        schema = self.schema.select(names)
        tables = {owner.name: self.tables[owner.name] for owner in schema.owners}
        scalers = {owner.name: self.scalers[owner.name] for owner in schema.scaled}
        lookups = {d.name: self.derived.lookups[d.name] for d in schema.derived if d.function == "lookup"}
        return Encoders(schema, tables, scalers, lookups)

    def save(self, folder: Path) -> list[Path]:
        """Write schema.yaml and vocab/ into `folder` and return the files, each whole;
        the same encoders are the same bytes.
        """
        (folder / "vocab").mkdir(parents=True, exist_ok=True)
        files = [folder / "schema.yaml", folder / "vocab" / STATE]
        with replaced(files[0]) as path:
            self.schema.save(path)
        with replaced(files[1]) as path:
            path.write_text(json.dumps(self._state(), indent=1) + "\n")
        for name, table in self.tables.items():
            if isinstance(table, Vocabulary):
                ids = pa.array(np.arange(1, table.rows, dtype=np.int32))
                content = pa.table({"id": ids, "value": table.values, "count": table.counts})
                files.append(folder / "vocab" / f"{name}.parquet")
                with replaced(files[-1]) as path:
                    pq.write_table(content, path, compression="zstd")
        looked_up = [derived for derived in self.schema.derived if derived.function == "lookup"]
        return [*files, *(self.derived.lookups[derived.name].save(folder, derived) for derived in looked_up)]

    @classmethod
    def load(cls, folder: Path) -> Encoders:
        """What `save` wrote. Raises DataError naming a file that is missing or damaged, SchemaError for the schema."""
        schema = FeatureSchema.load(folder / "schema.yaml")
        path = folder / "vocab" / STATE
        try:
            state = json.loads(path.read_text())
            scalers = {owner.name: Scaler(**state["scalers"][owner.name]) for owner in schema.scaled}
            tables = {owner.name: _load_table(folder, owner, state) for owner in schema.owners}
            return cls(schema, tables, scalers, load_lookups(folder, schema))
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; was {folder} written by swrec?") from None
        except (json.JSONDecodeError, KeyError, TypeError) as failure:
            raise DataError(f"{path}: damaged, or not of this schema ({type(failure).__name__}: {failure})") from None

    def fingerprint(self) -> str:
        """sha256 over schema, vocabularies and scalers: equal fingerprints encode equally."""
        digest = hashlib.sha256(self.schema.model_dump_json().encode())
        digest.update(json.dumps(self._state(), sort_keys=True).encode())
        for name, table in sorted(self.tables.items()):
            if isinstance(table, Vocabulary):
                digest.update(json.dumps([name, table.values.to_pylist()]).encode())
        for name, lookup in sorted(self.derived.lookups.items()):
            digest.update(json.dumps([name, lookup.keys.to_pylist(), lookup.values.to_pylist()], default=str).encode())
        return digest.hexdigest()

    def _feature(self, name: str) -> Feature:
        return self._features.get(name) or self.schema.feature(name)

    def _state(self) -> dict[str, dict[str, object]]:
        state: dict[str, dict[str, object]] = {
            "hashed": {name: table.raw for name, table in self.tables.items() if isinstance(table, Hashing)},
            "scalers": {name: scaler.state() for name, scaler in self.scalers.items()},
        }
        fitted = [owner.name for owner in self.schema.owners if _encoder(owner).kind == "quantile"]
        return state | ({QUANTILES: {name: self._boundaries(name) for name in fitted}} if fitted else {})

    def _boundaries(self, name: str) -> list[float]:
        buckets = self.tables[name]
        assert isinstance(buckets, Buckets)
        return list(buckets.boundaries)


def _table(owner: Feature, counts: Mapping[str, pa.Table], boundaries: Mapping[str, Sequence[float]]) -> Table:
    """The table of `owner`, made of what was fitted."""
    encoder = _encoder(owner)
    if encoder.kind == "vocab":
        return Vocabulary.of_counts(counts[owner.name], encoder.min_count)
    if encoder.kind == "hash":
        raw = counts[owner.name].schema.field("value").type
        return _hashing(encoder, "int64" if pa.types.is_integer(raw) else "string")
    return Buckets(tuple(boundaries[owner.name]) if encoder.kind == "quantile" else encoder.boundaries)


def _hashing(encoder: Encoder, raw: RawType) -> Hashing:
    assert encoder.buckets is not None
    return Hashing(encoder.buckets, raw)


def _load_table(folder: Path, owner: Feature, state: dict[str, Any]) -> Table:
    encoder = _encoder(owner)
    if encoder.kind == "vocab":
        return _load_vocabulary(folder / "vocab" / f"{owner.name}.parquet", owner)
    if encoder.kind == "hash":
        return _hashing(encoder, state["hashed"][owner.name])
    return Buckets(tuple(state[QUANTILES][owner.name]) if encoder.kind == "quantile" else encoder.boundaries)


def _load_vocabulary(path: Path, owner: Feature) -> Vocabulary:
    if not path.is_file():
        raise DataError(f"{path}: no such file; {owner.name} needs its vocabulary")
    try:
        content = pq.read_table(path)
        vocabulary = Vocabulary(content["value"].combine_chunks(), content["count"].combine_chunks())
    except (pa.ArrowInvalid, KeyError) as failure:
        raise DataError(f"{path}: damaged ({' '.join(str(failure).split())})") from None
    if owner.rows is not None and vocabulary.rows != owner.rows:
        raise DataError(f"{path}: {vocabulary.rows - 1} values, expected {owner.rows - 1} as schema.yaml says")
    return vocabulary


def _plain(values: Values, chosen: np.ndarray) -> list[Any]:
    """The chosen values (bool [N]) as a list."""
    plain = values.to_pylist() if isinstance(values, (pa.Array, pa.ChunkedArray)) else list(values)
    return [value for value, wanted in zip(plain, chosen, strict=True) if wanted]


def _is_missing(values: Values) -> np.ndarray:
    """bool [N]"""
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values.is_null().to_numpy(zero_copy_only=False)
    return np.array([value is None for value in values], bool)


def _encoder(owner: Feature) -> Encoder:
    assert owner.encoder is not None  # the schema gives every table an owner with an encoder
    return owner.encoder


def _resolved(schema: FeatureSchema, tables: Mapping[str, Table]) -> FeatureSchema:
    """`schema` with the heights of its tables."""
    return schema.with_features(tuple(_with_heights(feature, tables) for feature in schema.features))


def _with_heights(feature: Feature, tables: Mapping[str, Table]) -> Feature:
    if feature.kind in ("dense", "vector"):
        return feature
    fields = tuple(
        field.model_copy(update={"rows": tables[name].rows})
        if (name := f"{feature.name}.{field.name}") in tables
        else field
        for field in feature.fields
    )
    return feature.model_copy(update={"rows": tables[feature.table].rows, "fields": fields})
