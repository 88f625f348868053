"""Work ahead of the consumer in background threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def mapped(work: Callable[[S], T], items: Iterable[S], threads: int) -> Generator[T, None, None]:
    """`work` of every item, in order, by so many threads; no more than threads + 1 results wait or are being made.

    The first error is raised here; what has not begun by then is never begun.
    """
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="loader") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def prefetched(source: Generator[T, None, None], depth: int, name: str = "prefetch") -> Generator[T, None, None]:
    """The items of `source`, up to `depth` of them made ahead by a thread (0: none, made when asked for).

    An error of `source` is raised here. The thread ends with the loop, however the loop ends: no item left, break, an
    error.
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


def _fill(
    source: Generator[T, None, None], items: SimpleQueue[T | _End], room: threading.Semaphore, stop: threading.Event
) -> None:
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
