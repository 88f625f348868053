"""KuaiRand: the official files and Parquet pieces give one table; no outcome of an impression is a feature."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from swrec_prod.config import RunConfig
from swrec_prod.datasets import DATASETS
from swrec_prod.datasets.kuairand import KUAIRAND_1K, KUAIRAND_PURE, OUTCOMES, TIMES, KuaiRandOptions
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.raw.source import Dataset

pytestmark = pytest.mark.engine

LOG = [
    "user_id",
    "video_id",
    "date",
    "hourmin",
    "time_ms",
    "is_click",
    "is_like",
    "is_follow",
    "is_comment",
    "is_forward",
    "is_hate",
]
LOG += [
    "long_view",
    "play_time_ms",
    "duration_ms",
    "profile_stay_time",
    "comment_stay_time",
    "is_profile_enter",
    "is_rand",
    "tab",
]
NUM = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
USERS = ["user_id", "user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author"]
USERS += [part for name in NUM for part in (name, f"{name}_range")] + [f"onehot_feat{i}" for i in range(18)]
VIDEOS = [
    "video_id",
    "author_id",
    "video_type",
    "upload_dt",
    "upload_type",
    "visible_status",
    "video_duration",
    "server_width",
]
VIDEOS += ["server_height", "music_id", "music_type", "tag"]
STATISTICS = ["video_id", "counts", "show_cnt", "play_cnt", "like_cnt"]
FOUR = 1_650_485_801_301  # 2022-04-21 04:16:41 in UTC+8, and 2022-04-20 in UTC


def log_row(user: int, video: int, time: int, click: int, tab: int, rand: int = 0) -> list[Any]:
    return [user, video, 20220421, 400, time, click, 0, 0, 0, 0, 0, click, 999, 5000, 7, 8, 0, rand, tab]


def user_row(user: int, feat4: str) -> list[Any]:
    counts = [part for name in NUM for part in (3, f"[1,{len(name)})")]
    return [user, "full_active", 0, 1, 0, *counts, *([user] * 4), feat4, *([user] * 13)]


def video_row(video: int, tag: str) -> list[Any]:
    return [video, 70 + video, "NORMAL", "2022-04-10", "Kmovie", 0.0, 87433.0, 720.0, 1280.0, 9155697141, 9.0, tag]


TABLES: dict[str, tuple[list[str], list[list[Any]]]] = {
    "log_standard_4_08_to_4_21": (LOG, [log_row(1, 10, FOUR, 1, 1), log_row(2, 11, FOUR + 1, 0, 0)]),
    "log_standard_4_22_to_5_08": (
        LOG,
        [log_row(1, 11, FOUR + 86_400_000, 0, 1), log_row(3, 12, FOUR + 86_400_001, 1, 14)],
    ),
    "log_random_4_22_to_5_08": (LOG, [log_row(2, 10, FOUR + 86_400_002, 1, 1, 1)]),
    "user_features": (USERS, [user_row(1, "4.0"), user_row(2, "")]),
    "video_features_basic": (VIDEOS, [video_row(10, "12,65"), video_row(11, "39"), video_row(12, "")]),
    "video_features_statistic": (STATISTICS, [[10, 1, 2.5, 1.5, 0.5]]),
}


def official(folder: Path, edition: str = "pure") -> Path:
    """The unpacked archive."""
    data = folder / {"pure": "KuaiRand-Pure", "1k": "KuaiRand-1K"}[edition] / "data"
    data.mkdir(parents=True)
    for name, (header, rows) in TABLES.items():
        with (data / f"{name}_{edition}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([header, *rows])
    return data


def read(raw: Path, on: Engine, dataset: Dataset = KUAIRAND_PURE, **options: Any) -> pa.Table:
    chosen = KuaiRandOptions.model_validate(options)
    return on.arrow(dataset.read(on, dataset.locate(raw, Path("/nowhere"), chosen), chosen).order_by("time"))


@pytest.mark.parametrize("dataset", [KUAIRAND_PURE, KUAIRAND_1K], ids=lambda dataset: dataset.name)
def test_the_official_files_are_one_table(tmp_path: Path, local_engine: Engine, dataset: Dataset) -> None:
    data = official(tmp_path, "pure" if dataset is KUAIRAND_PURE else "1k")
    table = read(tmp_path, local_engine, dataset)
    assert table.equals(read(data, local_engine, dataset)) and table.equals(read(data.parent, local_engine, dataset))
    assert table["user_id"].to_pylist() == [1, 2, 1, 3] and table["video_id"].to_pylist() == [10, 11, 11, 12]
    assert table["time"].to_pylist() == [t * 1000 for t in (FOUR, FOUR + 1, FOUR + 86_400_000, FOUR + 86_400_001)]
    assert table["scenario"].to_pylist() == ["1", "0", "1", "14"]
    assert table["click"].to_pylist() == table["long_view"].to_pylist() == [1, 0, 0, 1]
    assert table["hour"].to_pylist() == [4] * 4
    assert table["onehot_feat4"].to_pylist() == [4, None, 4, None]  # user 2 has none, user 3 no line
    assert table["register_days_range"].to_pylist() == ["[1,13)", "[1,13)", "[1,13)", None]
    assert table["tags"].to_pylist() == [["12", "65"], ["39"], ["39"], None]
    assert table["author_id"].to_pylist() == [80, 81, 81, 82] and set(table["music_id"].to_pylist()) == {9155697141}
    assert set(table["is_rand"].to_pylist()) == {0}


def pieces(folder: Path) -> Path:
    """A log cut into Parquet, types as a table library leaves them, with the behaviours of users 1 and 2 before it."""
    folder.mkdir()
    files = {
        "standard_0422_0508": "log_standard_4_22_to_5_08",
        "user_features": "user_features",
        "item_features": "video_features_basic",
    }
    for name, source in files.items():
        header, rows = TABLES[source]
        columns = [[None if value == "" else value for value in column] for column in zip(*rows, strict=True)]
        numbers = [
            [float(value) if value else None for value in c] if n == "onehot_feat4" else c
            for n, c in zip(header, columns, strict=True)
        ]
        pq.write_table(pa.table(dict(zip(header, numbers, strict=True))), folder / f"kuairand_pure_{name}.parquet")
    lists = {"watch_seq": [list(range(60)), [5]], "like_seq": [[], [5]], "long_watch_seq": [[7, 8], [5]]}
    until = [FOUR + 86_399_999, FOUR + 86_400_001]  # the second is the very moment of that user's row
    pq.write_table(
        pa.table({"user_id": [1, 3], "last_time_ms": until, **lists}),
        folder / "kuairand_pure_user_sequences_to_0424.parquet",
    )
    return folder


def test_parquet_pieces_are_the_same_table_with_earlier_behaviours(tmp_path: Path, local_engine: Engine) -> None:
    official(tmp_path)
    one, two = read(tmp_path, local_engine), read(pieces(tmp_path / "pieces"), local_engine)
    shared = one.column_names
    assert one.slice(2).to_pylist() == two.select(shared).to_pylist()
    assert two["earlier_watched"].to_pylist() == [list(range(10, 60)), None]
    assert two["earlier_liked"].to_pylist() == [[], None] and two["earlier_long_watched"].to_pylist() == [[7, 8], None]


@pytest.mark.parametrize("layout", [official, pieces])
def test_engines_agree(tmp_path: Path, engines: tuple[Engine, Engine], layout: Callable[[Path], Path]) -> None:
    raw = layout(tmp_path / "raw")
    one, two = (read(raw, on) for on in engines)
    assert one.to_pylist() == two.to_pylist() and one.schema.equals(two.schema)


def test_columns_may_come_in_another_order(tmp_path: Path, local_engine: Engine) -> None:
    path = official(tmp_path) / "log_standard_4_22_to_5_08_pure.csv"
    before = read(tmp_path, local_engine)
    rows = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("".join(",".join(reversed(row)) + "\n" for row in rows))
    assert read(tmp_path, local_engine).equals(before)


def test_tabs_and_exposures_can_be_chosen(tmp_path: Path, local_engine: Engine) -> None:
    official(tmp_path)
    assert read(tmp_path, local_engine, tabs=[0, 14])["scenario"].to_pylist() == ["0", "14"]
    assert read(tmp_path, local_engine, exposures="random")["is_rand"].to_pylist() == [1]
    assert read(tmp_path, local_engine, exposures="all")["is_rand"].to_pylist() == [0, 0, 0, 0, 1]


def test_what_came_after_the_impression_is_no_feature(tmp_path: Path, local_engine: Engine) -> None:
    official(tmp_path)
    columns = set(read(tmp_path, local_engine).column_names)
    assert not columns & {"visible_status", "show_cnt", "play_cnt", "like_cnt", "counts"}
    later = {*OUTCOMES, *TIMES, "click"}
    assert later <= {*KUAIRAND_PURE.outcomes, "is_click"}
    for name in ("kuairand_pure", "kuairand_1k", "kuairand_pure_behaviours", "kuairand_pure_tabs"):
        schema = DataFile.load(name).features
        sources = {feature.source for feature in schema.features if feature.kind != "sequence"}
        assert sources <= columns and not sources & {*later, "is_rand", "scenario"}
        assert {label.column for label in schema.labels} == {"click"} and (schema.time, schema.user) == (
            "time",
            "user_id",
        )


def test_days_of_the_data_files_begin_at_midnight_where_the_users_are() -> None:
    data = DataFile.load("kuairand_pure")
    assert data.utc_offset == "+08:00" and data.deduplicate.columns == ("user_id", "video_id", "time")
    assert data.model_dump() | {"features": 0} == DataFile.load("kuairand-1k").model_dump() | {
        "source": "kuairand-pure",
        "features": 0,
    }


@pytest.mark.parametrize("name", ["kuairand_shared_bottom", "kuairand_mscan"])
def test_run_files_judge_on_days_after_the_fitted_ones(name: str) -> None:
    run = RunConfig.load(Path(__file__).parents[1] / "configs" / "run" / f"{name}.yaml")
    assert run.data.days is not None and run.data.days.train == f"..{DataFile.load('kuairand_pure').fit_until}"


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (
            "log_standard_4_08_to_4_21",
            "is_click",
            "click",
            r"log_standard_4_08_to_4_21_pure\.csv: column 'is_click' is missing; did",
        ),
        (
            "log_standard_4_22_to_5_08",
            "tab",
            "page",
            r"log_standard_4_22_to_5_08_pure\.csv: column 'tab' is missing; known: ",
        ),
        (
            "user_features",
            "onehot_feat3",
            "feat3",
            r"user_features_pure\.csv: column 'onehot_feat3' is missing; did you mean onehot_feat",
        ),
        (
            "video_features_basic",
            "tag",
            "tags",
            r"video_features_basic_pure\.csv: column 'tag' is missing; did you mean tags",
        ),
        ("user_features", "full_active,0", "full_active,zero", r"user_features_pure\.csv.*is_lowactive_period"),
        (
            "video_features_basic",
            "\n11,",
            "\n10,",
            r"video_features_basic_pure\.csv: video_id 10 is there more than once",
        ),
    ],
)
def test_a_wrong_file_and_column_are_named(
    tmp_path: Path, local_engine: Engine, file: str, old: str, new: str, said: str
) -> None:
    path = official(tmp_path) / f"{file}_pure.csv"
    path.write_bytes(re.sub(rf"{old}(?=[\r,\n0-9])", new, path.read_bytes().decode(), count=1).encode())
    with pytest.raises(DataError, match=said):
        read(tmp_path, local_engine)


def test_missing_files_are_named(tmp_path: Path, local_engine: Engine) -> None:
    with pytest.raises(
        DataError, match=r"neither log_standard_4_08_to_4_21_pure\.csv, .* nor kuairand_pure_standard_\*\.parquet here"
    ):
        read(tmp_path, local_engine)
    data = official(tmp_path)
    (data / "user_features_pure.csv").unlink()
    with pytest.raises(DataError, match=r"user_features_pure\.csv is missing"):
        read(tmp_path, local_engine)
    (data / "user_features_pure.csv").write_text("")
    with pytest.raises(DataError, match=r"user_features_pure\.csv: the file is empty"):
        read(tmp_path, local_engine)


def test_the_example_of_the_columns_is_the_day_in_beijing() -> None:
    assert datetime.fromtimestamp(FOUR / 1000, UTC).strftime("%Y-%m-%d %H") == "2022-04-20 20"


def days_of(log: pa.Table) -> np.ndarray:
    """The day of each row in UTC+8."""
    return (log["time_ms"].to_numpy() + 8 * 3_600_000).astype("datetime64[ms]").astype("datetime64[D]")


def test_a_real_piece_goes_through_the_same_converter(shared_data: Path, local_engine: Engine) -> None:
    raw = pq.read_table(shared_data / "kuairand_pure_standard_0425_0508.parquet")
    expected = Counter(
        zip(raw["tab"].cast(pa.string()).to_pylist(), days_of(raw), raw["is_click"].to_pylist(), strict=True)
    )
    table = read(shared_data, local_engine)
    day = (table["time"].to_numpy() + 8 * 3_600_000_000).astype("datetime64[us]").astype("datetime64[D]")
    assert Counter(zip(table["scenario"].to_pylist(), day, table["click"].to_pylist(), strict=True)) == expected
    assert (
        pc.count_distinct(table["scenario"]).as_py() == 15
        and table["author_id"].null_count == table["register_days"].null_count == 0
    )
    largest_tabs = read(shared_data, local_engine, **DataFile.load("kuairand_pure").options)
    assert len(largest_tabs) == sum(n for (tab, _, _), n in expected.items() if tab in {"0", "1", "2", "4", "6"})


def test_earlier_behaviours_end_before_the_row(shared_data: Path, local_engine: Engine) -> None:
    sequences = pq.read_table(shared_data / "kuairand_pure_user_sequences_to_0424.parquet").to_pylist()
    known = {row["user_id"]: row for row in sequences}
    table = read(shared_data, local_engine).select(["user_id", "time", "earlier_watched", "earlier_liked"])
    late = 0
    for row in (*table.slice(0, 2000).to_pylist(), *table.slice(len(table) - 2000).to_pylist()):
        user = known.get(row["user_id"])
        seen = user is not None and user["last_time_ms"] * 1000 < row["time"]
        late += user is not None and not seen
        assert row["earlier_watched"] == (user["watch_seq"][-50:] if user and seen else None)
        assert row["earlier_liked"] == (user["like_seq"][-50:] if user and seen else None)
    assert late > 0


def test_what_is_said_about_the_editions() -> None:
    assert DATASETS["kuairand-pure"] is KUAIRAND_PURE and DATASETS["kuairand-1k"] is KUAIRAND_1K
    assert all(
        "CC BY-SA 4.0" in dataset.licence and "zenodo.org/records/10439422" in dataset.how_to_get
        for dataset in (KUAIRAND_PURE, KUAIRAND_1K)
    )
