"""Much to ask, several at once, answers in order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


def in_order(ask: Callable[[Question], Answer], questions: Iterable[Question], in_flight: int) -> Iterator[Answer]:
    """The answers in the order of the questions, of which no more are taken ahead than are in flight.

    Raises what `ask` does, at the question that is at fault.
    """
    rest = iter(questions)
    with ThreadPoolExecutor(in_flight, "swrec-ask") as threads:
        waiting = deque(threads.submit(ask, question) for question in itertools.islice(rest, in_flight))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(threads.submit(ask, question) for question in itertools.islice(rest, 1))
        finally:
            for future in waiting:
                future.cancel()
