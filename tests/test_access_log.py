"""The access log: it says of requests what their callers got, may be moved, and never stands in the way."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from answered import Server
from runs import PATIENCE, until
from test_processes import served
from tiny_world import ITEMS, USER

from swrec_prod.errors import ConfigError
from swrec_prod.serving.client import Client, make_request
from swrec_prod.serving.process.options import Options
from swrec_prod.serving.protocol import wire
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.service.ranking import FORM
from swrec_prod.serving.watching import access_log
from swrec_prod.serving.watching.access_log import AccessLog


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_says_what_the_caller_got(tiny_repo: Path, tmp_path: Path):
    log, began = AccessLog(tmp_path / "log"), datetime.now(UTC)
    with Server(Router.load(tiny_repo), log) as server:
        for name, scenario in (("good", "home"), ("bad", "garden")):
            sent = make_request(scenario, USER, ITEMS)
            sent.model, sent.request_id, sent.unit = "mscan", name, "secret"
            outcome = server.ask(FORM, sent.SerializeToString())
            if name == "good":
                answer = wire.ScoreResponse.FromString(outcome.reply)
            else:
                error = outcome.status.details
        server.ask(FORM, b"\xff")
    log.close()
    good, bad, unread = lines(tmp_path / "log")
    assert (good["request_id"], good["code"], good["scenario"]) == ("good", "OK", "home")
    assert (good["model"], good["version"]) == (answer.model, answer.version)
    assert good["debias_strength"] == pytest.approx(answer.debias_strength)
    assert (good["candidates"], good["variants"]) == (len(ITEMS["item_id"]), {})
    assert 0 < good["ms"] < 1e3 * PATIENCE and began <= datetime.fromisoformat(good["time"]) <= datetime.now(UTC)
    assert (bad["request_id"], bad["error"]) == ("bad", error) and bad["code"] != "OK" and "model" not in bad
    assert unread["code"] == "INVALID_ARGUMENT" and "request_id" not in unread
    assert "secret" not in (tmp_path / "log").read_text()


def test_a_share_of_answers_is_logged_and_every_failure(tmp_path: Path):
    random.seed(1)
    log = AccessLog(tmp_path / "log", 0.1)
    for i in range(4000):
        log.ended(None, None, "INTERNAL" if i % 40 == 0 else "OK", 0.001, 1, "")
    log.close()
    seen = Counter((line["code"], line["share"]) for line in lines(tmp_path / "log"))
    assert seen.keys() == {("OK", 0.1), ("INTERNAL", 1.0)} and seen["INTERNAL", 1.0] == 100
    assert 390 - 8 * 19 < seen["OK", 0.1] < 390 + 8 * 19  # eight standard deviations of a binomial


def test_the_file_may_be_renamed_meanwhile(tmp_path: Path):
    path, old = tmp_path / "log", tmp_path / "log.1"
    log = AccessLog(path)
    log.ended(None, None, "OK", 0.001, 1, "")
    until(lambda: path.read_text(), "the first line is written")
    path.rename(old)
    log.ended(None, None, "OK", 0.002, 2, "")
    log.close()
    assert [line["ms"] for line in lines(old)] == [1.0] and [line["ms"] for line in lines(path)] == [2.0]


def test_what_has_no_room_is_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    log = AccessLog(folder / "log")
    (folder / "log").unlink()
    folder.rmdir()
    monkeypatch.setattr(access_log, "MOST_LINES", 0)
    log.ended(None, None, "OK", 0.001, 1, "")
    assert log.dropped == 1
    monkeypatch.setattr(access_log, "MOST_LINES", 10)
    log.ended(None, None, "OK", 0.001, 1, "")
    log.close()
    assert log.dropped == 2


def test_a_log_that_cannot_be_is_refused_by_name(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"access log .*/no/log: cannot be written to"):
        AccessLog(tmp_path / "no" / "log")
    with pytest.raises(ConfigError, match="access share is 2"):
        Options(tmp_path, access_share=2.0).checked()


@pytest.mark.process
def test_workers_of_a_server_append_to_one_file(tiny_repo: Path, tmp_path: Path):
    path = tmp_path / "access.jsonl"
    with served(tiny_repo, tmp_path, access_log=path, workers=2) as server:
        with Client(server.target, timeout=PATIENCE) as client:
            names = {f"request {i}" for i in range(40)}
            for name in names:
                client.score("home", USER, ITEMS, model="mscan", request_id=name)
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0
    assert Counter(line["request_id"] for line in lines(path)) == Counter(names)
