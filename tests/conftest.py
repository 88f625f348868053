"""Fixtures shared by all tests. Real data are used where they lie beside the checkout; tests skip cleanly elsewhere.

What takes seconds to import is imported by the fixtures here and in the other plugins: the process that deals tests out
to workers loads these files too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is imported: see docs/performance.md
os.environ.setdefault("OMP_NUM_THREADS", "1")

from typing import TYPE_CHECKING

import numpy as np
import pytest
from runs import wait_for

from swrec_prod.engine import engine

if TYPE_CHECKING:
    from swrec_prod.engine.contract import Engine

pytest_plugins = ["installed", "selection", "strategy_runs", "whole_way"]
QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # queries on few rows: most of their time is compiling
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no real data beside the checkout (../shared/data)")
    return SHARED_DATA


@pytest.fixture(scope="session")
def cluster_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The cluster engine in Spark's local mode, one for all tests: starting it takes seconds."""
    if find_spec("pyspark") is None or not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        pytest.skip("no PySpark or no Java (`make cluster` installs PySpark)")
    os.environ.setdefault("SPARK_SUBMIT_OPTS", QUICK_JAVA)
    with engine("cluster", tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def local_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A local engine of the test's own, which knows no files of other tests."""
    with engine("local", tmp_path_factory.mktemp("local")) as running:
        yield running


@pytest.fixture(params=["local", "cluster"])
def each_engine(request: pytest.FixtureRequest) -> Engine:
    """Each of the engines."""
    return request.getfixturevalue(f"{request.param}_engine")


@pytest.fixture
def engines(local_engine: Engine, cluster_engine: Engine) -> tuple[Engine, Engine]:
    """Both engines, local first, to compare them."""
    return local_engine, cluster_engine


GENRES = ("Action", "Comedy", "Drama", "Thriller", "Animation", "Sci-Fi", "Adventure", "Romance", "Horror", "Musical")


@pytest.fixture(scope="session")
def raw_movielens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny MovieLens-1M in its official layout: 60 users, 80 movies, 4,000 ratings on 12 days, many at the same time.

    Ratings follow latent factors, so a model can learn; the first nine days end with `fit_until` of the genre file.
    """
    draw = np.random.default_rng(7)
    pairs = np.sort(draw.choice(60 * 80, 4000, replace=False))
    user, movie = pairs // 80, pairs % 80
    taste, style = draw.normal(size=(60, 3)), draw.normal(size=(80, 3))
    liking = (taste[user] * style[movie]).sum(1) + draw.normal(size=80)[movie] + draw.normal(scale=0.5, size=4000)
    rating = np.clip(np.round(3.6 + liking), 1, 5).astype(int)
    day = np.minimum(draw.integers(0, 12, 4000), draw.integers(0, 14, 4000))  # earlier days are busier
    time = 975_024_000 + day * 86_400 + draw.integers(0, 40, 4000) * 600  # from 2000-11-24, in steps of ten minutes
    folder = tmp_path_factory.mktemp("ml-1m")
    lines = [f"{u + 1}::{m + 1}::{r}::{t}" for u, m, r, t in zip(user, movie, rating, time, strict=True)]
    (folder / "ratings.dat").write_text("\n".join(lines) + "\n")
    ages, zips = draw.choice([1, 18, 25, 25, 35, 45, 50, 56], 60), draw.integers(10_000, 10_040, 60)
    users = [f"{u + 1}::{'MF'[u % 2]}::{ages[u]}::{draw.integers(0, 21)}::{zips[u]}" for u in range(60)]
    (folder / "users.dat").write_text("\n".join(users) + "\n")
    kinds = ["|".join(draw.choice(GENRES, draw.integers(1, 4), replace=False)) for _ in range(80)]
    movies = [f"{m + 1}::Film no. {m + 1} (19{60 + m % 40})::{kinds[m]}" for m in range(80)]
    (folder / "movies.dat").write_text("\n".join(movies) + "\n", encoding="latin-1")
    return folder


@pytest.fixture(scope="session")
def prepared_age(raw_movielens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny MovieLens prepared with age groups as scenarios and a random split column."""
    return _prepared("movielens_1m_age", raw_movielens, tmp_path_factory.mktemp("prepared") / "age")


@pytest.fixture(scope="session")
def prepared_genre(raw_movielens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny MovieLens prepared with genre families as scenarios, by days 2000-11-24..2000-12-05."""
    return _prepared("movielens_1m_genre", raw_movielens, tmp_path_factory.mktemp("prepared") / "genre")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What export reads of a prepared folder; see tiny_world."""
    import tiny_world

    folder = tmp_path_factory.mktemp("tiny")
    tiny_world.prepare(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_repo(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of its packages: mscan/1, mscan/2, shared_bottom/1."""
    import tiny_world

    return tiny_world.publish(tiny_folder, tmp_path_factory.mktemp("repo"))


@pytest.fixture(scope="session")
def tiny_server(tiny_repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a server process over them."""
    import tiny_world

    port_file = tmp_path_factory.mktemp("port") / "port"
    with tiny_world.launch(tiny_repo, port_file) as process:
        yield wait_for(port_file, process)
        process.terminate()


def _prepared(name: str, raw: Path, out: Path) -> Path:
    from swrec_prod.prepare.data_file import DataFile
    from swrec_prod.prepare.run import prepare

    prepare(DataFile.load(name), raw, out)
    return out
