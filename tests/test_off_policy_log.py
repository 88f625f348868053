"""`swrec off-policy`: a table with named columns becomes estimates, overall and part by part; bad input is counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest

from tests.commands import refused, succeeds, swrec

COLUMNS = ("--reward", "click", "--propensity", "p", "--target", "q")


def write_log(path: Path, **changes: np.ndarray) -> pa.Table:
    """600 rows of two policies in two places, of which the one called old is uniform over four items."""
    draw = np.random.default_rng(3)
    item = draw.integers(4, size=600)
    columns = {
        "policy": np.where(np.arange(600) % 3, "old", "new"),
        "place": np.where(draw.random(600) < 0.3, "cart", "home"),
        "user": draw.integers(90, size=600),
        "click": (draw.random(600) < np.array([0.1, 0.2, 0.3, 0.4])[item]).astype(int),
        "p": np.full(600, 0.25),
        "q": np.array([0.1, 0.2, 0.3, 0.4])[item],
        "m": np.full(600, 0.2),
        "e": np.full(600, 0.25),
    }
    table = pa.table(columns | changes)
    pv.write_csv(table, path) if path.suffix == ".csv" else pq.write_table(table, path)
    return table


def estimates(*words: object) -> dict[str, float]:
    record = json.loads(succeeds("off-policy", *words, "--json"))
    return {name: one["value"] for name, one in record["overall"]["estimates"].items()}


@pytest.mark.parametrize("name", ["log.parquet", "log.csv"])
def test_columns_have_the_names_that_are_given(tmp_path: Path, name: str) -> None:
    table = write_log(tmp_path / name).to_pandas()
    old = table[table.policy == "old"]
    words = (tmp_path / name, *COLUMNS, "--where", "policy=old", "--predicted", "m", "--expected", "e", "--clip", "1.3")
    w, r = old.q / old.p, old.click
    wanted = {"ips": (w * r).mean(), "snips": np.average(r, weights=w), "dr": (old.e + w * (r - old.m)).mean()}
    wanted |= {"clipped_ips": (w.clip(upper=1.3) * r).mean(), "sndr": 0.25 + np.average(r - old.m, weights=w)}
    assert estimates(*words) == pytest.approx(wanted)


def test_each_part_is_estimated_as_if_it_were_the_log(tmp_path: Path) -> None:
    write_log(tmp_path / "log.parquet")
    words = ("off-policy", tmp_path / "log.parquet", *COLUMNS, "--cluster", "user")
    every = json.loads(succeeds(*words, "--by", "place", "--json"))
    alone = json.loads(succeeds(*words, "--where", "place=cart", "--json"))
    assert every["parts"]["cart"] == alone["overall"] and set(every["parts"]) == {"cart", "home"}
    assert every["overall"]["weights"]["clusters"] == 90


def test_a_part_without_rewards_says_so_and_the_rest_stands(tmp_path: Path) -> None:
    table = write_log(tmp_path / "log.parquet").to_pandas()
    clicks = np.where(table.place == "cart", 0, table.click)
    write_log(tmp_path / "log.parquet", click=clicks)
    done = succeeds("off-policy", tmp_path / "log.parquet", *COLUMNS, "--by", "place", "--out", tmp_path / "out")
    assert "cart: no estimate: none of the" in done
    assert json.loads((tmp_path / "out" / "off_policy.json").read_text())["parts"]["cart"].startswith("none of the")
    assert "| home |" in (tmp_path / "out" / "off_policy.md").read_text()


def test_what_cannot_be_believed_is_warned_of(tmp_path: Path) -> None:
    write_log(tmp_path / "log.parquet", p=np.full(600, 0.5))
    said = succeeds("off-policy", tmp_path / "log.parquet", *COLUMNS)
    assert "not 1: propensities or target are not those of this log" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--where", "policy=older"), "no row has policy 'older'"),
        (("--where", "policy"), "--where policy: expected COLUMN=VALUE"),
        (("--by", "places"), "column 'places' is missing; did you mean place"),
        (("--cluster", "usr"), "column 'usr' is missing; did you mean user"),
        (("--predicted", "m"), "only one is given"),
        (("--clip", "0"), "clip is 0.0, expected a weight above 0"),
        (("--predicted", "policy", "--expected", "e"), "column 'policy' is string, expected numbers"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    write_log(tmp_path / "log.parquet")
    refused(swrec("off-policy", tmp_path / "log.parquet", *COLUMNS, *words), said)


def test_impossible_propensities_are_counted(tmp_path: Path) -> None:
    write_log(tmp_path / "log.parquet", p=np.repeat([0, 0.5, 2], [7, 590, 3]))
    said = "propensity: of 600 rows 7 0 or less and 3 above 1"
    refused(swrec("off-policy", tmp_path / "log.parquet", *COLUMNS), said)
    refused(swrec("off-policy", tmp_path / "none.parquet", *COLUMNS), "no such file or folder")
