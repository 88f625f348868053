"""What a generation is to hold, and how it gets that into memory without being in the way of the one that serves."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch

from swrec_prod.experiments.assign import Experiments
from swrec_prod.serving.process.link import Link
from swrec_prod.serving.process.options import Options
from swrec_prod.serving.routing.router import Router, find_packages
from swrec_prod.serving.routing.rules import Rules
from swrec_prod.serving.service.callers_file import Callers

NICE = 10  # of a process that loads beside one that serves: a core that is wanted goes to the latter, ten times to one
FILES = ("callers", "tls_cert", "tls_key", "tls_client_ca")  # that workers read when they begin


class Wanted(NamedTuple):
    """What the options ask for at one moment. packages: folders; rules: of the files beside them; marks: of everything
    that a generation cannot change any more, by file.
    """

    packages: Sequence[Path]
    rules: Rules
    marks: dict[str, str]

    @classmethod
    def now(cls, options: Options, running: Experiments | None = None) -> Wanted:
        """As files are now. running: the experiments until now. Raises PackageError, ConfigError."""
        packages = find_packages(options.models, options.chosen)
        rules = Rules.read(packages, options.routes, options.experiments, running)
        if options.callers is not None:
            Callers.load(options.callers)  # workers read it; what is wrong with it is said before packages are loaded
        return cls(packages, rules, _marks(packages, options))

    @classmethod
    def as_before(cls, options: Options, plain: dict[str, Any]) -> Wanted:
        """What another generation held, whatever files say now."""
        packages = [Path(path) for path in plain["packages"]]
        return cls(packages, Rules.from_plain(plain["rules"]), _marks(packages, options))

    def to_plain(self) -> dict[str, Any]:
        """For `as_before`."""
        return {"packages": list(map(str, self.packages)), "rules": self.rules.to_plain()}


def load(wanted: Wanted, options: Options, link: Link, *, beside: bool) -> Router:
    """The packages, warm. The supervisor hears of every stage. Raises PackageError, ConfigError.

    beside: another generation serves meanwhile.
    """
    link.send("loading", packages=[f"{path.parent.name}/{path.name}" for path in wanted.packages])

    def say(stage: str, package: Path) -> None:
        link.send("stage", stage=stage, package=f"{package.parent.name}/{package.name}")

    with ThreadPoolExecutor(1, initializer=_prepare, initargs=(beside,)) as aside:
        return aside.submit(Router.of, wanted.packages, wanted.rules, options.limits, say).result()


def _prepare(beside: bool) -> None:
    """In the thread that loads. It has a niceness of its own: workers are forked from another thread, and are not nice.

    With one thread, whatever workers use: OpenMP's threads do not live on in a fork.
    """
    torch.set_num_threads(1)
    if beside:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)


def _marks(packages: Sequence[Path], options: Options) -> dict[str, str]:
    """By file, its checksum: of each package's READY, and of the files that workers read when they begin."""
    given = (getattr(options, name) for name in FILES)
    files = [*(path / "READY" for path in packages), *(file for file in given if file is not None)]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
