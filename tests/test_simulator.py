"""The simulated log: what is hidden stays hidden, clicks follow the written causes, days know nothing of later ones."""

from __future__ import annotations

import filecmp
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from scipy import stats
from simulations import Columns, files, joined, options, simulated
from sklearn.metrics import roc_auc_score

from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.run import prepare
from swrec_prod.simulation.simulate import simulate
from swrec_prod.simulation.simulator import State, open_day
from swrec_prod.simulation.world import UNBORN, Simulation, make_world
from swrec_prod.strict import parse

TRUTH = {"row", "interest", "direct", "propensity", "click_probability", "conversion_probability"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four days with conversions and a random slice."""
    out = tmp_path_factory.mktemp("simulated") / "world"
    simulate(options(conversions=True, random_exposure=0.3), out)
    return out


@pytest.fixture(scope="module")
def rows(folder: Path) -> Columns:
    """Log and truth of `folder` joined by row, with the item's category."""
    return joined(folder)


# What is where


def test_the_truth_lies_in_truth_alone(folder: Path) -> None:
    hidden = TRUTH - {"row"}
    seen = [path for path in files(folder) if path.endswith(".parquet") and not path.startswith("truth/")]
    assert len(seen) == 4 + 2
    for path in seen:
        assert not hidden & set(pq.read_schema(folder / path).names), path
    assert not [word for word in ("truth", *hidden) if word in (folder / "data.yaml").read_text()]
    assert set(pq.read_table(folder / "truth").column_names) == TRUTH | {"day"}


def test_the_data_file_names_what_the_files_hold(folder: Path) -> None:
    content = yaml.safe_load((folder / "data.yaml").read_text())
    data = DataFile.load(folder / "data.yaml")
    schema = data.features
    located = data.dataset.locate(folder, folder, data.parsed_options())
    assert {Path(file.path).relative_to(folder).as_posix() for file in located} == {
        name for name in files(folder) if name.endswith(".parquet") and not name.startswith("truth/")
    }
    assert (
        len(schema.of_kind("id", "bag")) == 10
        and len(schema.of_kind("dense")) == 2
        and schema.tasks == ("click", "conversion")
    )
    columns = set(pq.read_table(folder / "log").column_names)
    for join in content["options"]["join"]:
        names = pq.read_schema(folder / join["file"]).names
        assert join["by"] in columns
        columns |= set(names)
    wanted = {f.source for f in schema.features if f.kind != "sequence"} | {label.column for label in schema.labels}
    assert wanted | {schema.time, schema.user, schema.request, schema.scenario.column} <= columns
    assert schema.feature("history").max_length == 50


@pytest.mark.engine
def test_the_log_prepares_with_its_own_data_file(folder: Path, rows: Columns, tmp_path: Path) -> None:
    manifest = prepare(DataFile.load(folder / "data.yaml"), folder, tmp_path / "prepared").to_json()
    assert manifest["rows"] == len(rows["row"]) and set(manifest["nulls"].values()) == {0}
    columns = ["row", "label_click", "history.item", "scenario"]
    table = pq.read_table(sorted((tmp_path / "prepared").glob("day=*/*.parquet")), columns=columns).sort_by("row")
    assert np.array_equal(table["label_click"].to_numpy(), rows["click"])
    lengths = pc.list_value_length(table["history.item"]).to_numpy()
    for row in np.random.default_rng(0).integers(0, len(lengths), 100):
        earlier = (rows["user_id"] == rows["user_id"][row]) & (rows["time"] < rows["time"][row])
        assert lengths[row] == min(50, rows["click"][earlier].sum())


def test_options_are_kept_with_the_log_and_make_it_again(folder: Path, tmp_path: Path) -> None:
    stored = parse(
        Simulation,
        {f"--{k.replace('_', '-')}": v for k, v in yaml.safe_load((folder / "simulation.yaml").read_text()).items()},
        "",
    )
    assert (stored.users, stored.items, stored.start) == (1000, 400, date(2024, 1, 1))
    simulate(stored, tmp_path / "again")
    assert filecmp.cmpfiles(folder, tmp_path / "again", files(folder), shallow=False) == (files(folder), [], [])


def test_the_log_is_in_order_of_time_and_requests_are_of_one_user_scenario_and_moment(
    rows: Columns, folder: Path
) -> None:
    assert np.array_equal(rows["row"], np.arange(80_000)) and (np.diff(rows["time"]) >= np.timedelta64(0)).all()
    _, first, sizes = np.unique(rows["session"], return_index=True, return_counts=True)
    for name in ("user_id", "scenario", "time", "device", "is_random"):
        assert (np.repeat(rows[name][first], sizes) == rows[name]).all(), name
    assert (sizes <= 10).all() and (sizes >= 4).sum() >= len(sizes) - 4  # the last request of a day may be cut
    pairs = rows["session"] * len(pq.read_table(folder / "items.parquet")) + rows["item_id"]
    assert len(np.unique(pairs)) == len(pairs)
    days = {
        path.name: pq.read_table(path)["time"].to_numpy().astype("datetime64[D]")
        for path in sorted((folder / "log").iterdir())
    }
    assert (
        all((dates == np.datetime64(name.removeprefix("day="))).all() for name, dates in days.items())
        and len(days) == 4
    )


def test_users_visit_often_and_in_different_scenarios(rows: Columns) -> None:
    _, first = np.unique(rows["session"], return_index=True)
    scenarios = [len(set(rows["scenario"][first][rows["user_id"][first] == user])) for user in range(200)]
    assert np.mean([n >= 2 for n in scenarios]) > 0.7


# Causes


def test_click_rates_are_the_written_probabilities(rows: Columns) -> None:
    """Every decile within five standard errors."""
    for label, probability, among in (
        ("click", "click_probability", None),
        ("conversion", "conversion_probability", "click"),
    ):
        chosen = slice(None) if among is None else rows[among] == 1
        p, y = rows[probability][chosen].astype(float), rows[label][chosen]
        for part in np.array_split(np.argsort(p, kind="stable"), 10):
            error = np.sqrt((p[part] * (1 - p[part])).sum())
            assert abs(y[part].sum() - p[part].sum()) < 5 * error


def test_the_written_probability_is_interest_plus_direct_effect(rows: Columns) -> None:
    logit = rows["interest"].astype(float) + rows["direct"]
    np.testing.assert_allclose(rows["click_probability"], 1 / (1 + np.exp(-logit)), rtol=1e-5)


def test_direct_effects_move_click_rates_and_zero_does_not(tmp_path: Path) -> None:
    with_, without = (simulated(tmp_path / str(x), direct_effect=x, days=1) for x in (1.0, 0.0))
    assert (without["direct"] == 0).all()
    for name in ("item_id", "user_id", "scenario", "interest"):
        assert np.array_equal(with_[name], without[name])  # on the first day nothing but the click differs
    names = np.unique(with_["scenario"])
    effect = [with_["direct"][with_["scenario"] == name].mean() for name in names]
    moved = [np.subtract(*(r["click"][r["scenario"] == name].mean() for r in (with_, without))) for name in names]
    assert max(effect) - min(effect) > 3 and stats.spearmanr(effect, moved).statistic > 0.8
    assert np.sign(moved)[np.abs(effect) > 0.5].tolist() == np.sign(effect)[np.abs(effect) > 0.5].tolist()


def test_interest_orders_what_is_liked_and_the_pooled_click_probability_does_not(rows: Columns) -> None:
    liked = np.random.default_rng(0).random(len(rows["row"])) < 1 / (1 + np.exp(-rows["interest"]))
    shown = np.bincount(rows["item_id"])[rows["item_id"]]
    by = {name: roc_auc_score(liked, rows[name]) for name in ("interest", "click_probability")}
    by["popularity"] = roc_auc_score(liked, shown)
    assert by["interest"] > by["click_probability"] + 0.05 and by["click_probability"] > by["popularity"]
    assert (
        roc_auc_score(rows["click"], rows["click_probability"]) > roc_auc_score(rows["click"], rows["interest"]) + 0.05
    )


def test_conversions_follow_clicks_only(rows: Columns) -> None:
    assert set(rows["conversion"][rows["click"] == 0]) == {0} and set(rows["conversion"][rows["click"] == 1]) == {0, 1}


def test_a_scenario_changes_what_is_of_interest(rows: Columns) -> None:
    """S -> M: the mean interest in categories, each scenario's level taken out, differs between scenarios."""
    scenario = np.unique(rows["scenario"], return_inverse=True)[1]
    mean = np.zeros((6, rows["category"].max() + 1))
    for s, c in np.ndindex(mean.shape):
        mean[s, c] = rows["interest"][(scenario == s) & (rows["category"] == c)].mean()
    own = mean - mean.mean(1, keepdims=True) - mean.mean(0) + mean.mean()
    assert own.std() > 0.2


# Exposure


def test_the_random_slice_is_uniform_over_live_items(tmp_path: Path) -> None:
    shown = simulated(tmp_path / "a", drift=0.0, random_exposure=0.5, items=100)
    counts = np.bincount(shown["item_id"][shown["is_random"] == 1], minlength=100)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert stats.chisquare(np.bincount(shown["item_id"][shown["is_random"] == 0], minlength=100)).pvalue < 1e-6
    assert np.allclose(shown["propensity"][shown["is_random"] == 1], 1 / 100)


def test_the_random_slice_shows_no_unborn_item(folder: Path, rows: Columns) -> None:
    uniform = rows["is_random"] == 1
    live = np.round(1 / rows["propensity"][uniform]).astype(int)
    day = (rows["row"] // 20_000)[uniform]
    for number in range(4):
        assert len(set(live[day == number])) == 1
        assert len(np.unique(rows["item_id"][uniform][day <= number])) <= live[day == number][0]
    assert live[0] < live[-1] <= 400


def test_propensities_are_the_probabilities_of_exposure(tmp_path: Path) -> None:
    """Weighted by 1 / propensity, every item is shown as often as every other: once for each row, in expectation."""
    shown = simulated(tmp_path / "a", drift=0.0, items=60, days=3)
    weight = np.bincount(shown["item_id"], 1 / shown["propensity"].astype(float), 60) / len(shown["row"])
    error = np.sqrt(np.bincount(shown["item_id"], shown["propensity"].astype(float) ** -2.0, 60)) / len(shown["row"])
    assert (np.abs(weight - 1) < 5 * error).all()
    assert np.bincount(shown["item_id"]).max() > 4 * np.bincount(shown["item_id"]).min()


# Time


def test_later_days_leave_earlier_bytes_alone(folder: Path, tmp_path: Path) -> None:
    simulate(options(days=2, conversions=True, random_exposure=0.3), tmp_path / "short")
    common = [name for name in files(tmp_path / "short") if name.endswith(".parquet")]
    assert len(common) == 2 + 2 * 2
    assert filecmp.cmpfiles(folder, tmp_path / "short", common, shallow=False) == (common, [], [])


def test_what_goes_on_in_a_part_does_not_depend_on_the_other_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("swrec_prod.simulation.simulator.PART_ROWS", 3000)
    rows = simulated(tmp_path / "a", days=1)
    assert len(list((tmp_path / "a/log/day=2024-01-01").iterdir())) == 7
    assert np.array_equal(rows["row"], np.arange(20_000))
    day = open_day(options(), world := make_world(options()), State.before(world), 0)
    assert np.array_equal(day.draw(4).log["item_id"], rows["item_id"][np.isin(rows["row"], day.draw(4).log["row"])])


def test_seeds_differ(tmp_path: Path) -> None:
    one, other = (simulated(tmp_path / str(seed), seed=seed, days=1) for seed in (1, 2))
    assert not np.array_equal(one["item_id"], other["item_id"])


def test_histories_tell_what_ids_do_not(tmp_path: Path) -> None:
    """Without drift and habit the interest is what user, item and scenario ids can tell at best;
    the same rows are shown with habit.

    Then rows in whose category the user clicked on the day before are clicked more than ids tell, and all others of a
    user without any click before are not. Without habit neither is.
    """
    ids, habits = (simulated(tmp_path / str(h), habit=h, drift=0.0, direct_effect=0.0, days=5) for h in (0.0, 1.0))
    chance = 1 / (1 + np.exp(-ids["interest"].astype(float)))
    for r in (ids, habits):
        assert np.array_equal(r["item_id"], ids["item_id"]) and np.array_equal(r["user_id"], ids["user_id"])
        day, pair = r["row"] // 20_000, r["user_id"] * 100 + r["category"]
        clicked = np.unique((pair * 10 + day)[r["click"] == 1])
        yesterday = np.isin(pair * 10 + day - 1, clicked)
        ever = np.any([np.isin(pair * 10 + day - back, clicked) & (day >= back) for back in range(1, 5)], axis=0)
        more, error = ((r["click"] - chance)[yesterday].sum(), np.sqrt((chance * (1 - chance))[yesterday].sum()))
        assert yesterday.sum() > 1000 and (more > 20 * error if r is habits else abs(more) < 4 * error)
        never = np.sqrt((chance * (1 - chance))[~ever].sum())
        assert abs((r["click"] - chance)[~ever].sum()) < 4 * never
    assert roc_auc_score(habits["click"], habits["interest"]) > roc_auc_score(habits["click"], ids["interest"]) + 0.01


def test_drift_moves_tastes_and_none_leaves_them(tmp_path: Path) -> None:
    for drift in (0.0, 1.0):
        given = options(drift=drift, habit=0.0)
        world = make_world(given)
        state = State.before(world)
        for number in range(3):
            state.next_day(open_day(given, world, state, number), [])
        same = float(np.corrcoef(state.taste_UK.ravel(), world.users.taste_UK.ravel())[0, 1])
        assert same == pytest.approx(1 if not drift else 0.99**1.5, abs=0.01) and state.taste_UK.std() == pytest.approx(
            1, abs=0.1
        )
        assert (world.items.birth_I > 0).mean() == pytest.approx(UNBORN * drift, abs=0.15)
