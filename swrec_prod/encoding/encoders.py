"""Raw values -> ids and numbers: the only encoder, for prepare, export and the server alike.

What it knows is a folder: `schema.yaml` (resolved: scenario values and table heights filled in),
`vocab/<table>.parquet` (id, value, count) and `vocab/encoders.json` (scalers, and the raw types of hashed tables). A
prepared dataset and an exported package are both such folders.

Types are strict: a vocabulary fitted on strings takes strings, one fitted on integers takes integers. An integer given
for a string is an error rather than an unknown value.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.encoding.lookups import Buckets, Hashing, Scaler, Table, Vocabulary
from swrec_prod.encoding.pack import Column, Ragged
from swrec_prod.encoding.raw_values import Values, lists
from swrec_prod.errors import DataError, nearest
from swrec_prod.files import replaced
from swrec_prod.schema import Encoder, Feature, FeatureSchema

STATE = "encoders.json"


class Encoders:
    """schema: resolved. tables: by Feature.table; scalers: by the name of a dense feature."""

    def __init__(self, schema: FeatureSchema, tables: dict[str, Table], scalers: dict[str, Scaler]) -> None:
        self.schema = schema
        self.tables = tables
        self.scalers = scalers
        self._features = {feature.name: feature for feature in schema.features}
        names = pa.array(schema.scenario.values, pa.string())
        self._scenarios = Vocabulary(names, pa.array(np.zeros(len(names), np.int64)))

    @classmethod
    def of_counts(cls, schema: FeatureSchema, counts: dict[str, pa.Table], scalers: dict[str, Scaler]) -> Encoders:
        """From the counted values (`value`, `count`) of every table but bucketized ones;
        a hashed one is there for its type only.

        schema: with its scenario values.
        """
        owners = [f for f in schema.of_kind("id", "bag") if f.shared_with is None]
        tables = {owner.name: _table(owner, counts.get(owner.name)) for owner in owners}
        return cls(_resolved(schema, tables), tables, scalers)

    def extended(self, counts: dict[str, pa.Table]) -> Encoders:
        """With ids for the values in `counts` (`value`, `count` by table) that are unknown so far; no id moves."""
        tables = dict(self.tables)
        for owner in self.schema.of_kind("id", "bag"):
            known = tables.get(owner.name)
            if isinstance(known, Vocabulary):
                tables[owner.name] = known.extended(counts[owner.name], _encoder(owner).min_count)
        return Encoders(_resolved(self.schema, tables), tables, self.scalers)

    def encode(self, name: str, values: Values) -> Column:
        """The values of one feature for N rows:
        a pyarrow array, a numpy array or a list (of lists for bags and sequences).

        Returns int32 [N] ids, float32 [N] numbers, or Ragged int32 ids over N rows for bags and sequences (the items).
        Raises DataError naming the feature for a value of the wrong type, SchemaError for an unknown feature.
        """
        feature = self._features.get(name) or self.schema.feature(name)
        if feature.kind == "dense":
            return self.scalers[name](values, name)
        table = self.tables[feature.table]
        if feature.kind == "id":
            return table(values, name)
        elements, offsets = lists(values, name)
        return Ragged(table(elements, name), offsets)

    def encode_scenario(self, values: Values) -> np.ndarray:
        """Scenario indices, int64 [N]. An unseen value has the fallback index, or is a DataError naming it."""
        index = self._scenarios(values, "scenario").astype(np.int64) - 1
        unseen = index < 0
        if unseen.any():
            if self.schema.scenario.unseen == "error":
                value = values[int(np.argmax(unseen))]
                value = value.as_py() if isinstance(value, pa.Scalar) else value
                raise DataError(f"scenario {value!r} is unknown; {nearest(str(value), self.schema.scenario.values)}")
            index[unseen] = len(self.schema.scenario.values)
        return index

    def select(self, names: tuple[str, ...]) -> Encoders:
        """The encoders of the features in `names` only, and of the tables that those share (FeatureSchema.select)."""
        schema = self.schema.select(names)
        tables = {f.table: self.tables[f.table] for f in schema.features if f.kind != "dense"}
        return Encoders(schema, tables, {f.name: self.scalers[f.name] for f in schema.of_kind("dense")})

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
        return files

    @classmethod
    def load(cls, folder: Path) -> Encoders:
        """What `save` wrote. Raises DataError naming a file that is missing or damaged, SchemaError for the schema."""
        schema = FeatureSchema.load(folder / "schema.yaml")
        path = folder / "vocab" / STATE
        try:
            state = json.loads(path.read_text())
            scalers = {f.name: Scaler(**state["scalers"][f.name]) for f in schema.of_kind("dense")}
            owners = [f for f in schema.of_kind("id", "bag") if f.shared_with is None]
            return cls(schema, {f.name: _load_table(folder, f, state["hashed"]) for f in owners}, scalers)
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
        return digest.hexdigest()

    def _state(self) -> dict[str, dict[str, object]]:
        hashed = {name: table.raw for name, table in self.tables.items() if isinstance(table, Hashing)}
        return {"hashed": dict(hashed), "scalers": {name: asdict(scaler) for name, scaler in self.scalers.items()}}


def _table(owner: Feature, counted: pa.Table | None) -> Table:
    """The table of `owner`, made of its counted values."""
    encoder = _encoder(owner)
    if encoder.kind == "bucketize":
        return Buckets(encoder.boundaries)
    assert counted is not None
    if encoder.kind == "vocab":
        return Vocabulary.of_counts(counted, encoder.min_count)
    assert encoder.buckets is not None
    return Hashing(encoder.buckets, "int64" if pa.types.is_integer(counted["value"].type) else "string")


def _load_table(folder: Path, owner: Feature, hashed: dict[str, str]) -> Table:
    encoder = _encoder(owner)
    if encoder.kind == "bucketize":
        return Buckets(encoder.boundaries)
    if encoder.kind == "hash":
        assert encoder.buckets is not None
        return Hashing(encoder.buckets, hashed[owner.name])  # type: ignore[arg-type]
    path = folder / "vocab" / f"{owner.name}.parquet"
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


def _encoder(owner: Feature) -> Encoder:
    assert owner.encoder is not None  # the schema gives every table an owner with an encoder
    return owner.encoder


def _resolved(schema: FeatureSchema, tables: dict[str, Table]) -> FeatureSchema:
    """`schema` with the heights of its tables."""
    features = tuple(
        f if f.kind == "dense" else f.model_copy(update={"rows": tables[f.table].rows}) for f in schema.features
    )
    return schema.model_copy(update={"features": features})
