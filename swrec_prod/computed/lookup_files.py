"""The tables that derived columns look up: found beside the data file or below the raw log, and read whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from swrec_prod.data.manifest import RawFileRecord
from swrec_prod.encoding.lookup_table import LookupTable, lookup_path
from swrec_prod.errors import DataError
from swrec_prod.files import file_sha256
from swrec_prod.schema import Derived, FeatureSchema

if TYPE_CHECKING:
    from ibis.expr.datatypes import DataType

LookupFiles = dict[str, Path]  # by the name of the derived column


def find_lookups(schema: FeatureSchema, beside: Path | None, raw: Path | None) -> LookupFiles:
    """Where each table lies. beside: the folder of the data file; raw: the raw log. Raises DataError naming both."""
    folders = [folder for folder in (beside, raw if raw is None or raw.is_dir() else raw.parent) if folder is not None]
    return {d.name: _find(d, folders) for d in _looked_up(schema)}


def _find(derived: Derived, folders: list[Path]) -> Path:
    assert derived.file is not None
    path = next((folder / derived.file for folder in folders if (folder / derived.file).is_file()), None)
    if path is None:
        places = " or ".join(map(str, folders)) or "the folder of a data file"
        raise DataError(f"derived {derived.name!r}: file {derived.file} is not in {places}; put it there")
    return path


def stored_lookups(schema: FeatureSchema, folder: Path) -> LookupFiles:
    """The tables of encoders that were fitted before, in `folder`: days that are added look up the same."""
    return {d.name: lookup_path(folder, d.name) for d in _looked_up(schema)}


def lookup_records(schema: FeatureSchema, files: LookupFiles) -> list[RawFileRecord]:
    """Identities of the tables, one a file."""
    records = {}
    for derived in _looked_up(schema):
        path = files[derived.name]
        sha256 = file_sha256(path)
        records[path] = RawFileRecord(name=str(derived.file), bytes=path.stat().st_size, sha256=sha256)
    return list(records.values())


def read_lookups(schema: FeatureSchema, files: LookupFiles, types: Mapping[str, DataType]) -> dict[str, LookupTable]:
    """The tables. types: of the log's columns; a CSV's keys are text where the column that is looked up is.

    Raises DataError for a file that cannot be read, and as LookupTable.of does.
    """
    read = {}
    for derived in _looked_up(schema):
        path, kind = files[derived.name], types.get(derived.of[0])
        is_text = kind is not None and kind.is_string()
        read[derived.name] = LookupTable.of(derived, _read(path, str(derived.key), is_text), str(path))
    return read


def _read(path: Path, key: str, is_text: bool) -> pa.Table:
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path, partitioning=None)
        typed = {key: pa.string()} if is_text else {}
        return pa.csv.read_csv(
            path, convert_options=pa.csv.ConvertOptions(column_types=typed, strings_can_be_null=True)
        )
    except (pa.ArrowInvalid, OSError) as failure:
        raise DataError(f"{path}: cannot be read as a table: {' '.join(str(failure).split())}") from None


def _looked_up(schema: FeatureSchema) -> list[Derived]:
    return [derived for derived in schema.derived if derived.function == "lookup"]
