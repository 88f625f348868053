"""`swrec compare --clusters --bootstrap`: against a loop over drawn users, and what it says that the rows can show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import succeeds, swrec
from finished_runs import World, by_name

from swrec_prod.compare.comparison import compare_runs
from swrec_prod.compare.text import comparison_json, comparison_markdown
from swrec_prod.metrics.probabilities import logloss
from swrec_prod.metrics.within_groups import gauc
from swrec_prod.pages.compare_page import write_comparison
from swrec_prod.statistics.paired import auc_difference


@pytest.fixture
def world(tmp_path: Path) -> World:
    """dnn, and two seeds of mmoe."""
    world = World(tmp_path)
    for path, quality, seed in (("dnn", 0.5, 1), ("mmoe/seed-1", 0.8, 1), ("mmoe/seed-2", 0.8, 2)):
        world.run(path, quality, seed)
    return world


def runs(world: World) -> list[str]:
    return [str(path) for path in world.logits]


def test_log_loss_and_gauc_have_the_errors_of_a_loop_over_drawn_users(world: World) -> None:
    alone = World(world.folder / "alone")
    for name, quality in (("dnn", 0.5), ("mmoe", 0.8)):
        alone.run(name, quality)
    record = comparison_json(compare_runs(runs(alone), resamples=500))
    a, b = alone.of("mmoe", "dnn")
    rows_of = [np.flatnonzero(alone.users == user) for user in np.unique(alone.users)]
    of = {
        "logloss": lambda at, z: logloss(alone.labels[at], z[at]),
        "gauc": lambda at, z: gauc(alone.labels[at], z[at], alone.users[at]).value,
    }
    for figure, value in of.items():
        again = []
        for _ in range(400):
            at = np.concatenate([rows_of[k] for k in alone.draw.integers(0, len(rows_of), len(rows_of))])
            again.append(value(at, a) - value(at, b))
        found = by_name(record)["mmoe"]["resampled"][figure]
        everywhere = np.arange(len(a))
        assert found["interval"]["value"] == pytest.approx(value(everywhere, a), abs=1e-9)
        assert found["difference"]["value"] == pytest.approx(value(everywhere, a) - value(everywhere, b), abs=1e-9)
        assert found["difference"]["error"] == pytest.approx(np.std(again), rel=0.2)
        assert by_name(record)["dnn"]["resampled"][figure]["difference"] is None


def test_rows_are_clustered_by_any_column(world: World) -> None:
    record = comparison_json(compare_runs(runs(world), clusters="row"))
    assert (record["clusters"], record["resamples"], by_name(record)["mmoe"]["resampled"]) == ("row", 0, {})
    wanted = auc_difference(world.labels, world.of("mmoe/seed-1", "mmoe/seed-2"), world.of("dnn"))
    difference = by_name(record)["mmoe"]["difference"]
    assert {key: difference[key] for key in wanted._fields} == pytest.approx(wanted._asdict())


def test_power_and_noise_are_said(world: World) -> None:
    comparison = compare_runs(runs(world))
    record = json.loads(json.dumps(comparison_json(comparison), allow_nan=False))
    assert by_name(record)["dnn"]["power"] is None
    power = by_name(record)["mmoe"]["power"]
    assert power["smallest"] > 2 * by_name(record)["mmoe"]["difference"]["error"]
    assert set(record["noise_floor"]) == {"seeds", "halves"} and record["noise_floor"]["seeds"] > 0
    assert "mmoe less dnn: with these 60 users a difference of" in comparison_markdown(comparison)
    one_seed = comparison_json(compare_runs(runs(world)[:2]))
    power = by_name(one_seed)["seed-1" if "seed-1" in by_name(one_seed) else "mmoe"]["power"]
    assert power["clusters"] == pytest.approx(60 * (power["smallest"] / power["target"]) ** 2, rel=0.01)
    assert (
        power["times"] == pytest.approx(power["clusters"] / 60, rel=0.01) and one_seed["noise_floor"]["seeds"] is None
    )


def test_the_command_takes_both_and_writes_them_everywhere(world: World, tmp_path: Path) -> None:
    record = json.loads(succeeds("compare", *runs(world), "--bootstrap", 200, "--json"))
    assert record["resamples"] == 200 and set(by_name(record)["mmoe"]["resampled"]) == {"logloss", "gauc"}
    assert "bootstrap" in succeeds("compare", *runs(world), "--bootstrap", 200)
    comparison = compare_runs(runs(world), resamples=200)
    write_comparison(comparison, tmp_path / "out")
    for name in ("compare.md", "compare.html"):
        assert "200 bootstrap resamples of users" in (tmp_path / "out" / name).read_text(encoding="utf-8")


def test_a_column_that_is_not_there_is_named(world: World) -> None:
    outcome = swrec("compare", *runs(world), "--clusters", "usr")
    assert outcome.code == 2 and "--clusters usr: no such column of the predictions; did you mean user" in outcome.err
