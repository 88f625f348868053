"""Cloud Theme: clicks are read, rows without a click are drawn alike every time
and never from what the user clicked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from standard_tables import standard_table

from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.prepare.data_file import DataFile

pytestmark = pytest.mark.engine

HEADER = "user_id,theme_id,item_id,leaf_cate_id,cate_level1_id,clk_cnt,reach_time"
DAY = 86_400_000_000


def clicks(number: int = 600, seed: int = 3) -> list[tuple[int, ...]]:
    """(user, theme, item, leaf, level 1, clicks, time) of 40 users in 3 themes on 4 days; theme 9 has one item only."""
    draw = np.random.default_rng(seed)
    lines = []
    for _ in range(number):
        item = int(draw.integers(0, 60))
        moment = (
            20_181_207_000_000
            + int(draw.integers(0, 4)) * 1_000_000
            + int(draw.integers(0, 24)) * 10_000
            + int(draw.integers(0, 60))
        )
        lines.append(
            (int(draw.integers(1, 41)), item % 3 + 1, 5000 + item, item % 7, item % 2, int(draw.integers(1, 4)), moment)
        )
    return [*lines, (77, 9, 9999, 1, 1, 1, 20_181_207_120_000)]


def write(folder: Path, log: Sequence[tuple[int, ...]]) -> Path:
    lines = [HEADER, *(",".join(map(str, line)) for line in log)]
    (folder / "theme_click_log.csv").write_text("\n".join(lines) + "\n")
    return folder


def split(table: pa.Table) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Clicks, and drawn rows."""
    rows = table.to_pylist()
    return [row for row in rows if row["click"]], [row for row in rows if not row["click"]]


def test_each_click_is_a_row_of_its_theme(tmp_path: Path) -> None:
    log = clicks()
    table = standard_table("cloud-theme", write(tmp_path, log), negatives=0)
    rows = Counter(
        (r["user_id"], r["scenario"], r["item_id"], r["leaf_cate_id"], r["cate_level1_id"], r["time"])
        for r in table.to_pylist()
    )
    moment = {
        t: round(datetime.strptime(str(t), "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp() * 1e6) for *_, t in log
    }
    assert rows == Counter((u, str(theme), i, leaf, top, moment[t]) for u, theme, i, leaf, top, _, t in log)
    assert set(table["click"].to_pylist()) == {1}
    assert all(row["hour"] == row["time"] // 3_600_000_000 % 24 for row in table.to_pylist())


def test_drawn_items_are_of_the_theme_and_day_and_were_never_clicked_by_the_user(tmp_path: Path) -> None:
    log = clicks()
    clicked, drawn = split(standard_table("cloud-theme", write(tmp_path, log), negatives=3))
    ever = {(row["user_id"], row["item_id"]) for row in clicked}
    pool = {
        (row["scenario"], row["time"] // DAY, row["item_id"], row["leaf_cate_id"], row["cate_level1_id"])
        for row in clicked
    }
    moments = {(row["user_id"], row["scenario"], row["time"]) for row in clicked}
    assert len(clicked) == len(log) and len(clicked) < len(drawn) <= 3 * len(clicked)
    for row in drawn:
        assert (row["user_id"], row["item_id"]) not in ever
        assert (row["scenario"], row["time"] // DAY, row["item_id"], row["leaf_cate_id"], row["cate_level1_id"]) in pool
        assert (row["user_id"], row["scenario"], row["time"]) in moments
    assert "9" not in {row["scenario"] for row in drawn}  # nothing else to draw there


def test_draws_depend_on_the_seed_alone_and_not_on_the_order_of_lines(tmp_path: Path) -> None:
    log = clicks()
    first = standard_table("cloud-theme", write(tmp_path, log))
    assert standard_table("cloud-theme", write(tmp_path, log[::-1])).equals(first)
    other = standard_table("cloud-theme", tmp_path, seed=2)
    assert split(other)[0] == split(first)[0] and split(other)[1] != split(first)[1]


def test_items_are_drawn_alike(tmp_path: Path) -> None:
    """One theme and day, 20 items with very unequal clicks, users who click once: draws are uniform over the items."""
    draw = np.random.default_rng(0)
    items = np.minimum(draw.geometric(0.2, 4000), 20)
    moments = 20_181_207_000_000 + draw.integers(0, 60, 4000) * 100 + draw.integers(0, 60, 4000)
    log = [(user, 1, int(item), 1, 1, 1, int(t)) for user, (item, t) in enumerate(zip(items, moments, strict=True))]
    _, drawn = split(standard_table("cloud-theme", write(tmp_path, log), negatives=4))
    hoped = dict.fromkeys(
        range(1, 21), 0.0
    )  # 4 draws out of 20, the second of an item and the user's own dropped: 20 (1 - (19/20)^4) items, each alike
    for item in items:
        for other in set(range(1, 21)) - {int(item)}:
            hoped[other] += 1 - (19 / 20) ** 4
    counts = Counter(row["item_id"] for row in drawn)
    assert set(counts) == set(range(1, 21))
    assert all(abs(counts[item] - hoped[item]) < 6 * hoped[item] ** 0.5 for item in hoped)


def test_the_data_file_reads_columns_that_are_there(tmp_path: Path) -> None:
    columns = set(standard_table("cloud-theme", write(tmp_path, clicks())).column_names)
    assert columns == {"user_id", "item_id", "leaf_cate_id", "cate_level1_id", "scenario", "time", "hour", "click"}
    schema = DataFile.load("cloud-theme").features
    assert {f.source for f in schema.features if f.kind != "sequence"} <= columns - {"click", "time", "scenario"}


def test_both_engines_agree(tmp_path: Path, engines: tuple[Engine, Engine]) -> None:
    raw = write(tmp_path, clicks(200))
    local, cluster = (standard_table("cloud-theme", raw, on) for on in engines)
    assert cluster.equals(local)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no Cloud Theme here; expected theme_click_log\.csv"):
        standard_table("cloud-theme", tmp_path)
    path = write(tmp_path, clicks(5)) / "theme_click_log.csv"
    whole = path.read_text()
    path.write_text(whole.replace("theme_id", "theme"))
    with pytest.raises(DataError, match=r"theme_click_log\.csv: column 'theme_id' is missing"):
        standard_table("cloud-theme", tmp_path)
    for line, said in (
        ("1,2,3,4", r"theme_click_log\.csv"),
        ("1,x,3,4,5,1,20181207000000", "x"),
        ("1,2,3,4,5,1,soon", "Could not convert"),
    ):
        path.write_text(whole + line + "\n")
        with pytest.raises(DataError, match=said):
            standard_table("cloud-theme", tmp_path)
