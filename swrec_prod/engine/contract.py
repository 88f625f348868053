"""What an engine can do. Column types are given as Ibis names them: int64, float64, string, array<int64>, timestamp.

Arrow tables have the types of arrow_types.py, on both engines the same for an expression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

if TYPE_CHECKING:
    import ibis.expr.types as ir


class Engine(Protocol):
    """Makes Ibis tables of files, and evaluates expressions over them. Failures are DataErrors that name what was read;
    a full disk is an OSError with ENOSPC.

    notes: a line each for the user about the files that were read so far.
    """

    name: str
    notes: list[str]

    def parquet(
        self, files: Sequence[Path], of_files: Sequence[Mapping[str, str | None]] = (), numbered: str | None = None
    ) -> ir.Table:
        """The rows of Parquet files.

        A column that only some of them have is missing values elsewhere, and a line in `notes`. of_files: for each file
        columns of strings that its rows have beside those in it, one value a file; one that all files hold is theirs.
        numbered: the name of one more column, int64: each row's place in its file, from 0.

        Raises DataError for a file that is missing or damaged, for a column whose type changes between files, and for
        one of `of_files` that only some of them hold, or a column `numbered` of their own.
        """

    def text(
        self,
        files: Sequence[Path],
        columns: Mapping[str, str],
        *,
        delimiter: str = ",",
        header: bool = False,
        quote: str = "",
    ) -> ir.Table:
        """The lines of delimited text files, .gz too. columns: every column of a line in order, and its type.

        quote: the character that encloses values with delimiters in them; none by default. An empty value is missing.
        header: the first line of each file names `columns`, in this order; anything else is a DataError. UTF-8 only.
        """

    def json_lines(self, files: Sequence[Path], columns: Mapping[str, str]) -> ir.Table:
        """The objects of files with one JSON object a line, .gz too; keys that are not in `columns` are left out."""

    def from_arrow(self, table: pa.Table) -> ir.Table:
        """A table that is in memory already."""

    def arrow(self, rows: ir.Table) -> pa.Table:
        """Evaluate, in this process; the order of rows is that of the expression's order_by."""

    def view(self, rows: ir.Table) -> ir.Table:
        """The same rows under a name, evaluated as before; what is built on them is then quick to translate."""

    def materialise(self, rows: ir.Table) -> ir.Table:
        """Evaluate once and keep the result, on disk where it is large, until `release` or `close`."""

    def release(self, rows: ir.Table) -> None:
        """Free the room of a table of `materialise`, which cannot be read any more."""

    def micros(self, moment: ir.TimestampColumn) -> ir.IntegerColumn:
        """Microseconds since 1970 of a timestamp; one without a zone is UTC."""

    def map_groups(
        self, rows: ir.Table, by: str, function: Callable[[pa.Table], pa.Table], schema: pa.Schema
    ) -> ir.Table:
        """`function` of all rows of each value of the column `by`, on the machines where they are.

        schema: of what it returns.

        A missing value is a group too. The rows of a group come in any order. `function` must be picklable.
        """

    def computed(
        self, rows: ir.Table, name: str, kind: str, of: Sequence[str], function: Callable[[pa.Table], pa.Array]
    ) -> ir.Table:
        """`rows` with the column `name` of type `kind`, which `function` computes of the columns `of`, some rows at a
        time, on the machines where they are, whenever it is read.

        `function` must be picklable; it returns one value for each row. Its SwrecErrors pass unchanged.
        """

    def close(self) -> None:
        """Release everything that was materialised."""
