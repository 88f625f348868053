"""What goes wrong beside the files: both engines tell it in a line,
end a query that is interrupted, and name what they lack.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from ibis import _

from swrec_prod.engine import engine
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import ConfigError, DataError

pytestmark = pytest.mark.engine


def test_an_error_of_a_function_of_groups(each_engine: Engine) -> None:
    def refuse(group: pa.Table) -> pa.Table:
        raise DataError(f"user {group['user'][0]} has too many rows")

    rows = each_engine.from_arrow(pa.table({"user": [7]}))
    with pytest.raises(DataError, match=r"^user 7 has too many rows$"):
        each_engine.arrow(each_engine.map_groups(rows, "user", refuse, pa.schema([("user", pa.int64())])))


def test_a_worker_with_another_python_is_told(cluster_engine: Engine) -> None:
    def lacks(group: pa.Table) -> pa.Table:
        raise ModuleNotFoundError("No module named 'pyarrow'")

    rows = cluster_engine.from_arrow(pa.table({"user": [7]}))
    with pytest.raises(
        ConfigError, match=r"workers: No module named 'pyarrow'; PYSPARK_PYTHON must name a Python with the pack"
    ) as error:
        cluster_engine.arrow(cluster_engine.map_groups(rows, "user", lacks, pa.schema([("user", pa.int64())])))
    assert "\n" not in str(error.value)


def test_a_value_that_cannot_be_cast_is_told(each_engine: Engine) -> None:
    with pytest.raises(DataError, match="'x y'") as error:
        each_engine.arrow(each_engine.from_arrow(pa.table({"s": ["1", "x y"]})).select(i=_.s.cast("int64")))
    assert "\n" not in str(error.value)


def test_ctrl_c_ends_a_query(local_engine: Engine) -> None:
    a, b, c = (local_engine.from_arrow(pa.table({name: range(10_000)})) for name in "abc")
    endless = a.cross_join(b).cross_join(c).agg(n=((_.a + _.b) * _.c % 7).sum())
    threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        local_engine.arrow(endless)
    assert local_engine.arrow(a.agg(n=_.a.max())).to_pylist() == [{"n": 9_999}]


def test_an_unknown_engine_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean cluster"), engine("clustr", tmp_path):
        pass


def test_what_the_cluster_engine_lacks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster_engine: Engine
) -> None:
    from pyspark.sql import SparkSession

    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    for name in ("JAVA_HOME", "SPARK_REMOTE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="install Java 17"), engine("cluster", tmp_path):
        pass
    monkeypatch.setitem(sys.modules, "pyspark", None)
    monkeypatch.delitem(sys.modules, "swrec_prod.engine.cluster")
    with pytest.raises(ConfigError, match="run `make cluster`"), engine("cluster", tmp_path):
        pass
