"""The Spark session that the cluster engine works in:
one that runs already, one that the environment describes, or local mode.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from swrec_prod.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Any of these says that Spark is configured: spark-submit, a Connect server,
# an installation of its own with its spark-defaults.conf.
CONFIGURED = ("SPARK_REMOTE", "SPARK_HOME", "SPARK_CONF_DIR", "MASTER", "PYSPARK_SUBMIT_ARGS", "PYSPARK_GATEWAY_PORT")
MEMORY = "2g"  # of the one process of local mode; what is larger is spilled
LOGGING = """rootLogger.level = off
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
logger.start.name = org.apache.spark.api.python.PythonGatewayServer
logger.start.level = off
"""  # failures reach Python as exceptions
RESULTS = {  # what results depend on, whatever the cluster's defaults are
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    "spark.sql.csv.parser.columnPruning.enabled": "false",  # every value of a line is checked, as DuckDB does
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
}


def open_session(scratch: Path, threads: int) -> tuple[SparkSession, bool]:
    """A session with settings and views of its own, and whether Spark was started here and so is to be stopped here.

    threads, scratch: of local mode. Raises ConfigError where Java is missing or Spark cannot be started.
    """
    logging.getLogger().addFilter(_is_no_talk)
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas", category=FutureWarning)
    running = SparkSession.getActiveSession()
    session = running.newSession() if running else _started(scratch, threads)
    for key, value in RESULTS.items():
        session.conf.set(key, value)
    return session, running is None


def _is_no_talk(record: logging.LogRecord) -> bool:
    """False for a traceback that Py4J logs by the root logger when Ctrl-C ends its talk with Java."""
    return record.module not in ("clientserver", "java_gateway")


def local_settings(scratch: Path, threads: int) -> Mapping[str, str]:
    """Local mode: nothing listens on the network, nothing is printed, nothing is written outside of `scratch`."""
    log = scratch / "log4j2.properties"
    log.write_text(LOGGING)
    return {
        "spark.master": f"local[{threads}]",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": MEMORY,
        "spark.driver.maxResultSize": "0",
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={log.absolute().as_uri()}",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.sql.shuffle.partitions": str(4 * threads),
    }


def _started(scratch: Path, threads: int) -> SparkSession:
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # workers need the same packages
    if not ({"SPARK_REMOTE", "JAVA_HOME"} & os.environ.keys() or shutil.which("java")):
        raise ConfigError("engine cluster: Java is missing; install Java 17 or set JAVA_HOME, or use the engine local")
    builder = SparkSession.builder.appName("swrec")
    if not set(CONFIGURED) & os.environ.keys():
        for key, value in local_settings(scratch, threads).items():
            builder = builder.config(key, value)
    try:
        return builder.getOrCreate()
    except (PySparkException, ImportError) as failure:
        reason = " ".join(str(failure).split())
        raise ConfigError(f"engine cluster: Spark does not start (Java 17 or later is needed): {reason}") from None
