"""A pytest plugin: what a test needs, as marks; which tests share a worker; and nothing unmarked starts a process.

    process   starts a process: a rank, a server, a command, Java
    engine    evaluates expressions: whatever prepares data (but for the encoders of a few rows, see fitted_encoders)
    slow      takes seconds for another reason

`make test-quick` leaves all three out. Marks follow from fixtures where they can; a test that starts a process or an
engine by itself and is not marked fails, in every selection. With `pytest -n`, a worker gets whole files, and all files
that name a fixture of SHARED, so that there is one Java and one whole way; those that take longest come first.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import pytest

from swrec_prod.engine import ENGINES

MARKS = {  # fixture -> what it needs
    "local_engine": ("engine",),
    "each_engine": ("engine", "process"),
    "cluster_engine": ("engine", "process"),
    "prepared_age": ("engine",),
    "prepared_genre": ("engine",),
    "wheel": ("process",),
    "whole_way": ("engine", "process"),
    "tiny_server": ("process",),
    "shared_data": ("slow",),
}
SHARED = {  # fixture -> the files that name it go along
    "each_engine": "spark",
    "cluster_engine": "spark",
    "engines": "spark",
    "product_venv": "way",
    "whole_way": "way",
    "tiny_repo": "server",
    "strategy_data": "strategies",
}
LONGEST = ("spark", "way")
LONG_MARKS = ("process", "engine", "slow")


def pytest_configure(config: pytest.Config) -> None:
    guard = Guard()
    config.pluginmanager.register(guard, "guard")
    subprocess.Popen.__init__ = guard.checked("process", subprocess.Popen.__init__)  # type: ignore[method-assign]
    ENGINES.update({name: guard.checked("engine", start) for name, start in ENGINES.items()})


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for mark in {mark for name in getattr(item, "fixturenames", ()) for mark in MARKS.get(name, ())}:
            item.add_marker(mark)
    if hasattr(config, "workerinput"):
        items.sort(key=place_of(items))


def place_of(items: list[pytest.Item]) -> Callable[[pytest.Item], int]:
    """A test's place among the others, for sorting: that of the longest one of those that go along with it."""
    places = {unit: i for i, unit in enumerate(LONGEST)}
    for item in items:
        marks = (i for i, mark in enumerate(LONG_MARKS, len(LONGEST)) if item.get_closest_marker(mark))
        unit = unit_of(item.path)
        places[unit] = min(next(marks, len(LONGEST) + len(LONG_MARKS)), places.get(unit, 99))
    return lambda item: places[unit_of(item.path)]


@cache
def unit_of(file: Path) -> str:
    """The name of what a worker gets at once: the file, or all files that name the same fixture of SHARED."""
    words = set(re.findall(r"\w+", file.read_text()))
    return next((unit for fixture, unit in SHARED.items() if fixture in words), file.name)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Instead of --dist loadgroup, which pytest-xdist 3.8 does not do with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Units(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(config.rootpath / nodeid.partition("::")[0])

    config.option.loadscopereorder = False  # they come in the order of place_of
    return Units(config, log)


def _is_git(arguments: tuple[Any, ...]) -> bool:
    """Whether these are of Popen for git, which every run asks for its commit, in a few milliseconds."""
    return len(arguments) > 1 and isinstance(arguments[1], list) and arguments[1][0] == "git"


class Guard:
    """Fails a test that starts what it is not marked for."""

    def __init__(self) -> None:
        self.item: pytest.Item | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self.item = item
        try:
            return (yield)
        finally:
            self.item = None

    def checked(self, mark: str, start: Callable[..., Any]) -> Callable[..., Any]:
        """`start`, which fails where the running test lacks the mark."""

        @wraps(start)
        def call(*arguments: Any, **options: Any) -> Any:
            allowed = self.item is None or self.item.get_closest_marker(mark) is not None
            if not allowed and not _is_git(arguments):
                pytest.fail(f"an unmarked test starts what `@pytest.mark.{mark}` is for; see tests/selection.py")
            return start(*arguments, **options)

        return call
