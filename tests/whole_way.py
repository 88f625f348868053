"""The whole way once for all tests: what `make demo` makes of a tiny MovieLens, with the wheel installed elsewhere."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import succeeds
from installed import plain_environment, run
from runs import DAYS, config_of, wait_for

ONE_EPOCH = ("train.epochs=1", "train.batch_size=128", "train.threads=1")  # two ranks: 256 rows a step
VALID_AND_TEST = ("data.days.valid=2000-12-03", "data.days.test=2000-12-04..")
SOME_FEATURES = ["user_id", "movie_id", "genres"]


@dataclass(frozen=True)
class WholeWay:
    """The folder that the demo left. printed: what it printed; trained: what both ranks and TorchX printed."""

    folder: Path
    printed: str
    trained: str

    @property
    def data(self) -> Path:
        return self.folder / "movielens_1m_genre"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def package(self) -> Path:
        return self.folder / "models" / "mscan" / "1"


@dataclass(frozen=True)
class Served:
    """The way's model, the same in int8 (small) and one of SOME_FEATURES (few), served by the installed `swrec serve`.

    few: the run of the last. target: host:port of the server.
    """

    few: Path
    target: str


@pytest.fixture(scope="session")
def whole_way(product_venv: Path, raw_movielens: Path, tmp_path_factory: pytest.TempPathFactory) -> WholeWay:
    """M-scan with c = 0.25, trained by two ranks under TorchX for one epoch, evaluated, exported, served and scored."""
    folder = tmp_path_factory.mktemp("way")
    options = ("--out", "demo", "--raw", raw_movielens, *VALID_AND_TEST, *ONE_EPOCH, "debias.c=0.25")
    done = run(["python", "-m", "swrec_prod.launch.demo", *options], folder, product_venv, timeout=110)
    return WholeWay(folder / "demo", done.stdout + done.stderr, (folder / "demo" / "train.log").read_text())


@pytest.fixture(scope="session")
def served(whole_way: WholeWay, product_venv: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from swrec_prod.train.run import train

    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(whole_way.package, folder / "models" / "mscan" / "1")
    data = {"path": str(whole_way.data), "split": "days", "days": DAYS, "features": SOME_FEATURES}
    train(config_of(whole_way.data, more={"data": data}, epochs=1), folder / "few")
    succeeds("export", folder / "few", "--to", folder / "models" / "few")
    succeeds("export", whole_way.run, "--to", folder / "models" / "small", "--quantize", "int8")
    words = [product_venv / "bin" / "swrec", "serve", "--models", "models", "--port", "0", "--port-file", "port"]
    streams = {"stdout": subprocess.DEVNULL, "text": True, "env": plain_environment(product_venv)}
    with subprocess.Popen(words, cwd=folder, **streams) as server:
        yield Served(folder / "few", wait_for(folder / "port", server))
        server.send_signal(signal.SIGINT)  # ends at once: SIGTERM gives load balancers time
