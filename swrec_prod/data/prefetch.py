"""Work ahead of the consumer in one background thread."""

from __future__ import annotations

import threading
from collections.abc import Generator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


def prefetched(source: Generator[T, None, None], depth: int, name: str = "prefetch") -> Generator[T, None, None]:
    """The items of `source`, up to `depth` of them made ahead by a thread (0: none, made when asked for).

    An error of `source` is raised here. The thread ends with the loop, however the loop ends: no item left, break, an error.
    """
    if depth == 0:
        yield from source
        return
    items: SimpleQueue[T | _End] = SimpleQueue()
    room = threading.Semaphore(depth)
    stop = threading.Event()
    worker = threading.Thread(target=_fill, args=(source, items, room, stop), name=name, daemon=True)
    worker.start()
    try:
        while not isinstance(item := items.get(), _End):
            room.release()
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        room.release()
        worker.join()


class _End:
    """The last thing in the queue; `error` ended the source, if it is not None."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error


def _fill(source: Generator[T, None, None], items: SimpleQueue[T | _End], room: threading.Semaphore, stop: threading.Event) -> None:
    """The thread. `room` is taken before an item is made, so that no more than depth of them are ever alive in here."""
    error: Exception | None = None
    try:
        while room.acquire() and not stop.is_set():
            items.put(next(source))
    except StopIteration:
        pass
    except Exception as failure:
        error = failure
    finally:
        source.close()
        items.put(_End(error))
