"""`swrec replay`: the same package says the same as the log, another one says how far it is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from answered import Context
from commands import refused, succeeds, swrec
from exposed import rows_of

from swrec_prod.exposures.converter import convert_finished
from swrec_prod.exposures.log import Log
from swrec_prod.schema import FeatureSchema
from swrec_prod.serving.callers.rows import requests_from_table
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.service.admission import Admission
from swrec_prod.serving.service.answering import Answering
from swrec_prod.serving.service.exposing import Exposing, described
from swrec_prod.serving.service.ranking import FORM
from swrec_prod.serving.watching.counts import Counts, served_by


@pytest.fixture(scope="module")
def log(tiny_repo, tiny_folder, tmp_path_factory) -> Path:
    """What a server logged that answered held-out rows by M-scan."""
    folder = tmp_path_factory.mktemp("log")
    router = Router.load(tiny_repo, ("mscan",))
    counts, own = Counts.alone(served_by(router)), Log(folder, described(router))
    answering = Answering(router, counts, Admission(counts), None, Exposing(own))
    rows, schema = pq.read_table(tiny_folder / "requests.parquet"), FeatureSchema.load(tiny_folder / "schema.yaml")
    with asyncio.Runner() as runner:
        for request in requests_from_table(rows, schema):
            outcome = runner.run(answering.outcome(FORM, request.request.SerializeToString(), Context()))
            assert outcome.status is None, outcome.status
    own.close()
    convert_finished(folder)
    return folder


def figures(log: Path, package: Path, *words: str) -> dict:
    return json.loads(succeeds("replay", log, "--package", package, "--json", *words))


def test_the_same_package_says_the_same(log, tiny_repo):
    found = figures(log, tiny_repo / "mscan" / "2", "--tolerance", "1e-6")
    assert found["refused"] == {} and set(found["tasks"]) == {"click", "buy"}
    overall = found["tasks"]["click"]["overall"]
    rows = rows_of(log)
    assert overall["answers"] == len(rows) and overall["candidates"] == sum(row["candidates"] for row in rows)
    assert overall["largest"] < 1e-6 and overall["other_first"] == 0
    by_scenario = {name: of["answers"] for name, of in found["tasks"]["click"].items() if name != "overall"}
    assert sum(by_scenario.values()) == overall["answers"] and set(by_scenario) == {"home", "cart", "search"}


def test_another_package_says_how_far_it_is(log, tiny_repo):
    package = tiny_repo / "shared_bottom" / "1"
    found = figures(log, package, "--limit", "20")["tasks"]["buy"]["overall"]
    assert found["answers"] == 20 and found["largest"] > 0.01
    assert found["mean_size"] <= found["p99_size"] <= found["largest"] and 0 < found["other_first"] < 1
    outcome = swrec("replay", log, "--package", package, "--tolerance", "1e-5")
    assert outcome.code == 2 and "allowed are 1e-05" in outcome.err
    assert "shared_bottom/1 less that of the log" in outcome.out


def test_c_of_the_log_or_of_the_package(log, tiny_repo):
    """c changes the order over scenarios alone, and no probability."""
    logged, own = (figures(log, tiny_repo / "mscan" / "2", *more) for more in ((), ("--own-c",)))
    assert logged == own


def test_wrong_logs_are_refused(log, tiny_repo, tmp_path):
    package = tiny_repo / "mscan" / "2"
    refused(swrec("replay", tmp_path, "--package", package), "no exposure log; expected the DIR of swrec serve")
    refused(swrec("replay", log, "--package", package, "--model", "mscn"), "no answers of 'mscn'; did you mean mscan")
    table = pq.read_table(next(log.rglob("*.parquet")))
    at = table.schema.get_field_index("sample_rate")
    without = table.set_column(at, "sample_rate", pa.nulls(len(table), pa.float32()))
    pq.write_table(without, tmp_path / "1-a-mscan-2.parquet")
    refused(
        swrec("replay", tmp_path, "--package", package), "no answer has its request; serve with --exposures-features"
    )
