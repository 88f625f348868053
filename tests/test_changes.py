"""What changes of a server are made of: labels, rules that travel, watched files, and counts over generations."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from swrec_prod.errors import ConfigError
from swrec_prod.experiments.assign import Experiments
from swrec_prod.experiments.experiments_file import ExperimentsFile
from swrec_prod.serving.process.admin import listening
from swrec_prod.serving.process.change import Changes, Outcome
from swrec_prod.serving.process.options import Options
from swrec_prod.serving.process.watch import watching
from swrec_prod.serving.routing.labels import Labels, resolved
from swrec_prod.serving.routing.routes import Routes
from swrec_prod.serving.routing.rules import Rules
from swrec_prod.serving.watching.counts import INFLIGHT, REQUESTS, Layout, Served
from swrec_prod.serving.watching.metrics import Tally


def test_what_was_stable_is_previous_and_going_back_twice_is_where_one_was():
    labels = Labels().moved("stable", 3).moved("canary", 4)
    assert labels == Labels(stable=3, canary=4)
    labels = labels.moved("stable", 4)
    assert labels == Labels(stable=4, canary=4, previous=3) and labels.versions == [3, 4]
    assert labels.moved("stable", 4) == labels, "nothing was stable before that is not now"
    assert labels.rolled_back() == Labels(stable=3, canary=4, previous=4)
    assert labels.rolled_back().rolled_back() == labels
    assert labels.moved("canary", None).canary is None
    with pytest.raises(ConfigError, match="no version was stable before; say which: swrec models label"):
        Labels(stable=1).rolled_back()


@pytest.mark.parametrize(
    ("version", "number"),
    [("", 3), ("stable", 3), ("canary", 5), ("latest", 5), ("4", 4), ("previous", None), ("6", None), ("x", None)],
)
def test_a_version_is_named_by_number_by_label_or_not_at_all(version: str, number: int | None):
    assert resolved(version, (3, 4, 5), Labels(stable=3, canary=5)) == number
    assert resolved("", (3, 4, 5), Labels(stable=9)) == 5, "a label of a version that is not served counts for nothing"


def test_rules_are_the_same_after_a_journey():
    routes = {"default": {"model": "a", "version": "canary"}, "scenarios": {"home": {"strength": 0.5}, "cart": {}}}
    variants = {"x": {"buckets": [[0, 100]]}, "y": {"buckets": [[100, 200]], "strength": 0.1}}
    file = {"layers": {"l": {}}, "experiments": {"e": {"layer": "l", "control": "x", "variants": variants}}}
    experiments = Experiments(ExperimentsFile.model_validate(file), "E.yaml")
    rules = Rules(Routes.model_validate(routes), "R.yaml", experiments, {"a": Labels(stable=2, previous=1)})
    again = Rules.from_plain(rules.to_plain())
    assert again.to_plain() == rules.to_plain()
    assert again.experiments.version == experiments.version
    assert again.routes.route("home") == rules.routes.route("home") and again.labels == rules.labels


def test_a_change_of_files_is_told_once_when_it_has_come_to_rest(tmp_path: Path):
    ready, routes, told = tmp_path / "m" / "1" / "READY", tmp_path / "routes.yaml", []
    options = Options(tmp_path, routes=routes, watch=0.02)

    def nothing() -> None: ...

    def publish() -> None:
        ready.parent.mkdir(parents=True)
        ready.touch()

    async def watch() -> list[int]:
        counts = []
        async with watching(options, lambda: told.append(1)):
            for step in (nothing, publish, routes.touch, (tmp_path / "notes.txt").touch):
                step()
                for _ in range(10):  # as many looks, or one less
                    await asyncio.sleep(0.02)
                counts.append(len(told))
        return counts

    assert asyncio.run(watch()) == [0, 1, 2, 2]


def test_counts_of_two_generations_are_added_and_what_is_in_flight_ends_with_its_own():
    served, tally = [Served("m", "1", ("home",))], Tally()
    layout = Layout(served)
    labels = ("home", "m", "1", "OK")
    memories = [memoryview(bytearray(layout.bytes(1))) for _ in range(2)]
    numbers = [tally.begin(served, memory) for memory in memories]
    for memory, requests, in_flight in zip(memories, (5.0, 7.0), (1.0, 2.0), strict=True):
        slot = layout.slots(memory)[0]
        slot[layout.at[REQUESTS, labels]], slot[layout.at[INFLIGHT, ()]] = requests, in_flight
    registry = CollectorRegistry()
    registry.register(tally)
    name = {"scenario": "home", "model": "m", "version": "1", "code": "OK"}

    def told() -> tuple[float | None, float | None]:
        return registry.get_sample_value("scorer_requests_total", name), registry.get_sample_value("scorer_inflight")

    assert told() == (12.0, 3.0)
    tally.end(numbers[0])
    assert told() == (12.0, 2.0)
    tally.end(numbers[1])
    assert told() == (12.0, None)


def test_wishes_that_come_during_a_change_get_one_more_look_together():
    changes = Changes()
    first = changes.ask("SIGHUP")
    changes.begin()
    assert changes.ask("admin") is changes.ask("watch") is not first
    changes.finish("refused", "no", ())
    changes.finish("refused", "nothing is being made", ())
    assert changes.reloads.done == {("refused", "files"): 1}


def test_the_admin_socket_of_a_killed_server_is_taken_and_that_of_another_is_not(tmp_path: Path):
    async def reload() -> Outcome:
        return Outcome("unchanged", "files", "", 0.0, ())

    async def twice() -> None:
        async with listening(tmp_path / "admin", reload):
            os.link(tmp_path / "admin", tmp_path / "left")
            with pytest.raises(ConfigError, match="admin: another server listens there; give each its own"):
                async with listening(tmp_path / "admin", reload):
                    pass
        os.rename(tmp_path / "left", tmp_path / "admin")
        async with listening(tmp_path / "admin", reload):
            pass

    asyncio.run(twice())
    assert not (tmp_path / "admin").exists()
    with pytest.raises(ConfigError, match=r"admin socket .*nowhere/admin: No such file or directory; give a path in"):
        asyncio.run(_listen(tmp_path / "nowhere" / "admin"))


async def _listen(path: Path) -> None:
    async with listening(path, None):  # type: ignore[arg-type]
        pass
