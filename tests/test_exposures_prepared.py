"""An exposure log as a raw log: `swrec prepare` makes of what a server was sent what it made of the raw log itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as dataset
import pyarrow.parquet as pq
import pytest
import yaml
from answered import Context
from commands import refused, succeeds, swrec
from exposed import FIRST, SECOND, answer, logged
from runs import ROOT, config_of, metrics_of_run, run_file

from swrec_prod.data.catalog import Catalog
from swrec_prod.datasets.exposures import EXPOSURES, ExposuresOptions
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.engine.contract import Engine
from swrec_prod.export.run import export_package
from swrec_prod.exposures.converter import convert_finished
from swrec_prod.exposures.log import Log
from swrec_prod.ranker import build_ranker, resolve_run
from swrec_prod.serving.callers.rows import TableRequest, requests_from_table
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.service.admission import Admission
from swrec_prod.serving.service.answering import Answering
from swrec_prod.serving.service.exposing import Exposing, described
from swrec_prod.serving.service.ranking import FORM
from swrec_prod.serving.watching.counts import Counts, served_by

IDS = ("user_id", "gender", "occupation", "zip", "movie_id", "main_genre", "genres")
BY, KEY = ["request_id", "movie_id"], ["request_id", "position"]


@pytest.fixture(scope="module")
def served(prepared_genre: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a server logged that was asked for the held-out rows, and which of them were clicked. request_id: the number
    of the first of a request's rows.
    """
    folder, repo = tmp_path_factory.mktemp("exposures"), tmp_path_factory.mktemp("repo")
    config, catalog = config_of(prepared_genre, "mscan", {"debias": {"c": 0.0}}), Catalog.open(prepared_genre)
    export_package(build_ranker(resolve_run(catalog.schema, config)).eval(), config, catalog, repo / "mscan", "none")
    rows = pq.read_table(prepared_genre / "requests.parquet")
    requests = list(requests_from_table(rows, catalog.schema))
    for asked in requests:
        asked.request.request_id = str(rows["row"][asked.rows[0]])
    answer_all(Router.load(repo, ("mscan",)), requests, folder)
    shown = pa.Table.from_pylist([of for asked in requests for of in shown_by(asked, rows)])
    pq.write_table(shown, folder / "shown.parquet")
    write_outcomes(shown, prepared_genre, folder / "outcomes")
    return folder


def answer_all(router: Router, requests: Iterable[TableRequest], folder: Path) -> None:
    """Answer as a server does, with its exposure log."""
    counts, log = Counts.alone(served_by(router)), Log(folder, described(router))
    answering = Answering(router, counts, Admission(counts), None, Exposing(log))
    with asyncio.Runner() as runner:
        for asked in requests:
            outcome = runner.run(answering.outcome(FORM, asked.request.SerializeToString(), Context()))
            assert outcome.status is None, outcome.status
    log.close()
    convert_finished(folder)


def shown_by(asked: TableRequest, rows: pa.Table) -> list[dict[str, Any]]:
    """The candidates of a request, by its id and their places, and which row of the raw log each was."""
    return [
        {
            "request_id": asked.request.request_id,
            "position": position,
            "movie_id": rows["movie_id"][i].as_py(),
            "row": rows["row"][i].as_py(),
        }
        for position, i in enumerate(asked.rows)
    ]


def write_outcomes(shown: pa.Table, prepared: Path, folder: Path) -> None:
    """The clicks, each by two rows, as of a click and of what came later."""
    clicked = rows_of_days(prepared).filter(pc.field("label_click") == 1)["row"]
    clicks = shown.filter(pc.is_in(shown["row"], clicked.combine_chunks())).select(BY)
    folder.mkdir()
    for part, (click, dwell) in enumerate([(1, 0.0), (0, 2.5)]):
        of_all = {"click": [click] * len(clicks), "dwell": [dwell] * len(clicks)}
        pq.write_table(pa.table({**{n: clicks[n] for n in BY}, **of_all}), folder / f"{part}.parquet")


def rows_of_days(folder: Path) -> pa.Table:
    rows = dataset.dataset([str(path) for path in folder.glob("day=*/*.parquet")]).to_table()
    return rows.rename_columns([name.removeprefix("keep:") for name in rows.column_names])


def data_file(folder: Path, **options: Any) -> Path:
    """The features of configs/data/movielens_1m_genre.yaml, read from an exposure log."""
    schema = yaml.safe_load((ROOT / "configs/data/movielens_1m_genre.yaml").read_text())["schema"]
    history = next(feature for feature in schema["features"] if feature["name"] == "history")
    history["columns"] = {"item": "history.item", "scenario": "history.scenario"}
    del history["where"]
    content = {
        "source": "exposures",
        "options": {"outcomes": {"file": "outcomes/*.parquet", "by": BY}, **options},
        "keep": ["request_id", "position"],
        "deduplicate": ["answer_id", "position"],
        "schema": schema | {"name": "exposed", "time": "ts", "request": "request_id"},
    }
    path = folder / "exposed.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def prepared(served: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    succeeds("prepare", data_file(folder), "--raw", served, "--out", folder / "data")
    return folder / "data"


class Codes:
    """What ids of one prepared folder are in another: both encode the same raw values, by vocabularies of their own."""

    def __init__(self, raw: pa.Table, mine: Path, other: Path) -> None:
        self.raw, self.mine, self.other = raw, Encoders.load(mine), Encoders.load(other)

    def translated(self, name: str, ids: pd.Series) -> list[Any]:
        column = self.raw[name]
        known = pa.chunked_array([pc.unique(pc.list_flatten(column) if pa.types.is_list(column.type) else column)])
        values = known if not pa.types.is_list(column.type) else pa.chunked_array([[[v] for v in known.to_pylist()]])
        mine, other = (ids_of(encoders.encode(name, values)) for encoders in (self.mine, self.other))
        codes = dict(zip(mine, other, strict=True))
        assert len(codes) == len(known), "two values have one id, so that they could be taken for each other"
        return [[codes[i] for i in of] if isinstance(of, list) else codes[of] for of in listed(ids)]


def ids_of(column: Any) -> list[int]:
    return np.asarray(getattr(column, "values", column)).tolist()


def listed(column: pd.Series) -> list[Any]:
    return [value.tolist() if isinstance(value, np.ndarray) else value for value in column]


@pytest.mark.engine
def test_features_equal_those_of_the_raw_log(served: Path, prepared: Path, prepared_genre: Path) -> None:
    shown = pq.read_table(served / "shown.parquet").to_pandas()
    ours, theirs = (rows_of_days(folder).to_pandas() for folder in (prepared, prepared_genre))
    both = ours.drop(columns="row").merge(shown[[*KEY, "row"]], on=KEY)
    both = both.merge(theirs, on="row", suffixes=("", "_raw"))
    assert len(both) == len(ours) == len(shown) > 300 and both["position"].max() > 0
    codes = Codes(pq.read_table(prepared_genre / "requests.parquet"), prepared, prepared_genre)
    for name in IDS:
        assert codes.translated(name, both[name]) == listed(both[f"{name}_raw"]), name
    assert (both["label_click"] == both["label_click_raw"]).all() and 0 < both["label_click"].mean() < 1
    assert both["scenario"].map(names_of(prepared)).equals(both["scenario_raw"].map(names_of(prepared_genre)))
    again, original = (age_of(folder, both[name]) for folder, name in ((prepared, "age"), (prepared_genre, "age_raw")))
    np.testing.assert_allclose(again, original, atol=1e-4)


@pytest.mark.engine
def test_histories_are_those_that_were_sent(served: Path, prepared: Path, prepared_genre: Path) -> None:
    """Their items, by the raw log's own numbers, and their scenarios."""
    rows = pq.read_table(prepared_genre / "requests.parquet").to_pandas().set_index("row")
    shown = pq.read_table(served / "shown.parquet").to_pandas()
    both = rows_of_days(prepared).to_pandas().drop(columns="row").merge(shown, on=KEY)
    movies = Encoders.load(prepared)
    sent = [rows["history.item"][row].tolist() for row in both["row"]]
    assert max(map(len, sent)) > 3
    encoded = [ids_of(movies.encode("movie_id", pa.chunked_array([pa.array(of, pa.int64())]))) for of in sent]
    assert listed(both["history.item"]) == encoded
    where = names_of(prepared)
    assert [[where[i] for i in of] for of in listed(both["history.scenario"])] == [
        rows["history.scenario"][row].tolist() for row in both["row"]
    ]


def names_of(prepared: Path) -> dict[int, str]:
    return dict(enumerate(Catalog.open(prepared).schema.scenario.names))


def age_of(prepared: Path, scaled: pd.Series) -> np.ndarray:
    """Years, of what minmax made of them: two known ages give the line."""
    ends = np.asarray(Encoders.load(prepared).encode("age", pa.chunked_array([[0.0, 100.0]])))
    return (scaled.to_numpy() - ends[0]) / (ends[1] - ends[0]) * 100


@pytest.mark.engine
def test_a_model_trains_on_it(served: Path, tmp_path: Path) -> None:
    dealt = yaml.safe_load(data_file(tmp_path).read_text()) | {"split": {"random": {"seed": 1}}}
    (tmp_path / "dealt.yaml").write_text(yaml.safe_dump(dealt))
    succeeds("prepare", tmp_path / "dealt.yaml", "--raw", served, "--out", tmp_path / "data")
    config = config_of(tmp_path / "data", "mscan", {"debias": {"c": 0.0}}, epochs=2, batch_size=32)
    succeeds("train", run_file(tmp_path, config), "--out", tmp_path / "run")
    metrics = metrics_of_run(tmp_path / "run")
    assert metrics["rows"] > 400 and 0 < metrics["overall"]["logloss"] < 1


def test_answers_are_read_once_and_forced_ones_on_request(tmp_path: Path, local_engine: Engine) -> None:
    kept = [answer(0, (FIRST, FIRST._replace(experiment="other"))), answer(1, (FIRST, SECOND)), answer(2, ())]
    logged(tmp_path, *kept, answer(3, request=None, sample_rate=None))

    def read_with(**options: Any) -> list[dict[str, Any]]:
        parsed = ExposuresOptions(**options)
        rows = EXPOSURES.read(local_engine, EXPOSURES.locate(tmp_path, tmp_path, parsed), parsed)
        return local_engine.arrow(rows.order_by("request_id", "position")).to_pylist()

    places = [(row["request_id"], row["position"], row["item_id"]) for row in read_with()]
    assert places == [("r-0", 0, 4), ("r-0", 1, 5), ("r-2", 0, 4), ("r-2", 1, 5)]
    assert {row["request_id"] for row in read_with(forced=True)} == {"r-0", "r-1", "r-2"}
    first = read_with()[0]
    assert (first["user_id"], first["price"], first["history.item"]) == ("u1", 1.5, [1, 2, 3])
    assert first["tags"] == ["t1", "t2"]
    assert (first["scenario"], first["variant"], first["model"]) == ("home", "high", "mscan")


def test_wrong_logs_are_refused(served: Path, prepared_genre: Path, tmp_path: Path) -> None:
    def prepare(raw: Path, **options: Any) -> Any:
        return swrec("prepare", data_file(tmp_path, **options), "--raw", raw, "--out", tmp_path / "out")

    refused(prepare(tmp_path), "no file matches options.log 'dt=*/hour=*/*.parquet'")
    missing = {"file": "no/*.parquet", "by": BY}
    refused(prepare(served, outcomes=missing), "no no/*.parquet here, which options.outcomes names")
    wrong = {"file": "outcomes/*.parquet", "by": ["request_id", "movieid"]}
    refused(prepare(served, outcomes=wrong), "column 'movieid', on which outcomes/*.parquet is joined, is missing")
    other = prepare(prepared_genre, log="day=*/*.parquet", outcomes=None)
    refused(other, "expected files that swrec serve --exposures wrote")
