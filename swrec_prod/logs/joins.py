"""Tables of attributes that are joined to a team's own log: as they are, or as they were at the impression."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pydantic

from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.logs.folders import all_columns_of, is_leftover
from swrec_prod.logs.moments import OF_LOG, Time, limits, micros
from swrec_prod.raw.columns import check_join, one_row_each, with_attributes
from swrec_prod.raw.source import RawFile, RawFiles
from swrec_prod.strict import Strict
from swrec_prod.zones import Clock

if TYPE_CHECKING:
    import ibis.expr.types as ir

FOR_EVER = 2**63 - 1


class Join(Strict):
    """A table of attributes.

    file: its path or glob below --raw. by: the column, or columns, that the log has too.

    as_of: the column that says from when on a row holds. An impression gets the newest row of its key that is not after
    its own moment; `by` and `as_of` together are there once. Without it `by` is unique in the table.

    (Not `on`, which YAML reads as true.)
    """

    file: str
    by: tuple[str, ...] = pydantic.Field(min_length=1)
    as_of: str | None = None

    @pydantic.field_validator("by", mode="before")
    @classmethod
    def _from_word(cls, by: Any) -> Any:
        return (by,) if isinstance(by, str) else by

    @pydantic.field_validator("file")
    @classmethod
    def _one_level(cls, file: str) -> str:
        if "**" in file:
            raise ValueError(
                f"** is for `log` only; name the files of one folder, for example users/*.parquet, not {file!r}"
            )
        return file

    @pydantic.model_validator(mode="after")
    def _moment_is_no_key(self) -> Join:
        if self.as_of in self.by:
            raise ValueError(f"as_of {self.as_of!r} is one of `by`; leave it out there")
        return self


def attribute_files(root: Path, joins: Sequence[Join]) -> RawFiles:
    """The files of the tables of attributes, each with the table that it belongs to.

    Raises DataError for a table without files, and for a file of two tables.
    """
    files: dict[Path, RawFile] = {}
    for join in joins:
        matching = (path for path in root.glob(join.file) if path.is_file())
        paths = sorted(path for path in matching if not is_leftover(path, root, join.file))
        if not paths:
            raise DataError(f"{root}: no {join.file} here, which options.join names")
        for path in paths:
            if path in files:
                raise DataError(
                    f"{path}: options.join finds it by {files[path].table!r} and again by {join.file!r}; "
                    "each file is joined once"
                )
            columns = all_columns_of(path.relative_to(root)) if join.as_of else ()
            files[path] = RawFile(path, table=join.file, columns=columns)
    return tuple(files[path] for path in sorted(files))


class Moments(NamedTuple):
    """time: the column of the log's moments; None in a log without. clock: by which dates begin."""

    time: Time | None
    clock: Clock

    def of(self, column: str) -> Time:
        """The column of a table of attributes; whole numbers have the log's unit."""
        assert self.time is not None, "check_moments refuses as_of in a log without time"
        return self.time.model_copy(update={"column": column})


def joined(
    engine: Engine, log: ir.Table, files: RawFiles, joins: Sequence[Join], moments: Moments, place: str
) -> ir.Table:
    """The log with the attributes of all tables. place: the log's file, for messages.

    Raises DataError for columns that are missing or cannot be joined.
    """
    for join in joins:
        mine = [file for file in files if file.table == join.file]
        attributes = engine.parquet([file.path for file in mine], [dict(file.columns) for file in mine])
        if join.as_of is None:
            log = with_attributes(log, attributes, join.by, join.file)
            continue
        assert moments.time is not None, "check_moments refuses as_of in a log without time"
        if join.as_of in dict(mine[0].columns) and attributes[join.as_of].type().is_string():  # a folder of a day
            attributes = attributes.mutate(**{join.as_of: attributes[join.as_of].cast("date")})
        moment = micros(engine, log, moments.time, OF_LOG, place)
        holds_from = micros(engine, attributes, moments.of(join.as_of), "as_of", join.file, moments.clock)
        log = _with_newest(log.mutate(moment__=moment), attributes.mutate(from__=holds_from), join)
    return log


def _with_newest(log: ir.Table, attributes: ir.Table, join: Join) -> ir.Table:
    """The log with the newest attributes not after `moment__`. A row of a key holds from `from__` to the next one's."""
    import ibis

    assert join.as_of is not None, "without it there is one row a key"
    check_join(log, attributes.drop(join.as_of), join.by, join.file)
    attributes = one_row_each(attributes, [*join.by, join.as_of], join.file).drop(join.as_of)
    one_key = ibis.window(group_by=list(join.by), order_by=attributes["from__"])
    attributes = attributes.mutate(until__=attributes["from__"].lead().over(one_key).fill_null(FOR_EVER))
    holds = [log["moment__"] >= attributes["from__"], log["moment__"] < attributes["until__"]]
    found = log.left_join(attributes, [*join.by, *holds], rname="{name}__right")
    return found.drop("moment__", "from__", "until__", *(f"{name}__right" for name in join.by))


def check_moments(files: RawFiles, joins: Sequence[Join], moments: Moments) -> None:
    """Raises DataError for a table whose rows are all later than the log, so that nothing at all is joined of it, and
    for `as_of` in a log without time.
    """
    log = [file for file in files if file.table is None]
    for join in (join for join in joins if join.as_of):
        if moments.time is None:
            wrong = f"{join.file}: as_of {join.as_of!r} needs the log's moments"
            raise DataError(f"{wrong}; name schema.time and options.time")
        begins = _begin([file for file in files if file.table == join.file], join, moments)
        # the last file is the likeliest to have a later row, and one is enough
        if begins is None or any(_ends_at(file.path, moments.time) >= begins for file in reversed(log)):
            continue
        first = datetime.fromtimestamp(begins / 1_000_000, UTC).isoformat(" ", "seconds")
        late = f"column {join.as_of!r} (as_of) begins at {first}, after the last impression, so that nothing is joined"
        remedy = "add the rows that held before, or leave as_of out; or is the unit wrong?"
        raise DataError(f"{join.file}: {late}; {remedy}")


def _begin(files: Sequence[RawFile], join: Join, moments: Moments) -> int | None:
    """The first moment of a table; None where none of its rows has one."""
    assert join.as_of is not None, "asked of such tables only"
    if join.as_of in dict(files[0].columns):
        first = min(_date_of(file, join.as_of) for file in files)
        return int(moments.clock.midnights(np.array([(first - date(1970, 1, 1)).days]))[0])
    spans = [limits(file.path, moments.of(join.as_of), "as_of", moments.clock) for file in files]
    return min((span[0] for span in spans if span), default=None)


def _date_of(file: RawFile, column: str) -> date:
    said = dict(file.columns).get(column) or ""
    try:
        return date.fromisoformat(said)
    except ValueError:
        raise DataError(f"{file.path}: {column}={said} (as_of) is no date, expected {column}=2024-05-01") from None


def _ends_at(path: Path, time: Time) -> int:
    """The last moment of a file of the log; for ever where that is to be found wrong elsewhere."""
    span = limits(path, time, OF_LOG)
    return span[1] if span else FOR_EVER
