"""The write-ahead log: files of answers that survive the process that writes them, DIR/wal/*.arrow.

A segment is an Arrow IPC stream, batch behind batch, without the footer that a Parquet file cannot be read without: of
one whose writer was killed, all but a batch that it was at can be read. Its writer holds a lock on it, which the system
gives up with the process; so whoever gets the lock knows that the segment is finished.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from swrec_prod.errors import DataError

SUFFIX, NEW, DAMAGED = ".arrow", ".new", ".damaged"


class Segment:
    """A segment that is being written. bytes: so far; begun: when, by the monotonic clock.

    Raises OSError where it cannot be made, and from all methods.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.path = folder / f"{time.time_ns() // 1_000_000}-{uuid.uuid4().hex[:12]}{SUFFIX}"
        new = self.path.with_suffix(NEW)  # until it has a lock and a beginning
        self._file = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
        self.bytes, self.begun = 0, time.monotonic()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(schema.serialize())
            new.rename(self.path)
        except OSError:
            new.unlink(missing_ok=True)
            os.close(self._file)
            raise

    def append(self, batch: pa.RecordBatch) -> None:
        """Add a batch, whole or not at all."""
        self._write(batch.serialize())

    def sync(self) -> None:
        """Return when all of it is on the disk."""
        os.fdatasync(self._file)

    def close(self) -> None:
        """Finish it: from now on another process may take it."""
        os.close(self._file)

    def _write(self, data: pa.Buffer) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            os.ftruncate(self._file, self.bytes)  # what is behind half a batch could not be read
            os.lseek(self._file, self.bytes, os.SEEK_SET)
            raise
        self.bytes += data.size


def waiting(folder: Path) -> list[Path]:
    """Segments in a folder, the oldest first, finished or not."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def waiting_bytes(folder: Path) -> int:
    """What they take on the disk."""
    total = 0
    for path in waiting(folder):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # it has been converted meanwhile
            continue
    return total


class Taken:
    """A finished segment, which no other process has."""

    def __init__(self, path: Path, file: int) -> None:
        self.path, self._file = path, file

    @classmethod
    def of(cls, path: Path) -> Taken | None:
        """None where it is being written, or another process has it, or it is gone."""
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_nlink:
                return cls(path, file)
        except BlockingIOError:
            pass
        os.close(file)
        return None

    def table(self) -> pa.Table:
        """Its answers. Raises DataError for a file of another kind."""
        with pa.OSFile(str(self.path)) as file:
            try:
                reader = pa.ipc.open_stream(file)
            except (pa.ArrowInvalid, OSError) as failure:
                raise DataError(f"{self.path}: no segment of exposures: {failure}") from None
            return pa.Table.from_batches(list(_batches(reader)), reader.schema)

    def remove(self) -> None:
        """It has been converted."""
        self.path.unlink()
        os.close(self._file)

    def set_aside(self) -> Path:
        """Keep it under another name, under which nobody tries it again."""
        aside = self.path.with_suffix(DAMAGED)
        self.path.rename(aside)
        os.close(self._file)
        return aside

    def give_back(self) -> None:
        """Another time, maybe."""
        os.close(self._file)


def _batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """All that can be read: where the writer was killed, the last one is cut short."""
    while True:
        try:
            batch = reader.read_next_batch()
        except (StopIteration, pa.ArrowInvalid, OSError):
            return
        yield batch
