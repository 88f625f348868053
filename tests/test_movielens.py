"""MovieLens-1M: three raw layouts are one table; what is wrong with a file is said with its line."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from swrec_prod.datasets import DATASETS
from swrec_prod.datasets.movielens import FAMILIES, MOVIELENS_1M, MovieLensOptions, rating_log
from swrec_prod.errors import DataError
from swrec_prod.raw.wheel import WheelFiles

pytestmark = pytest.mark.engine


def table_of(raw: Path, scenarios: str = "age") -> pa.Table:
    options = MovieLensOptions.model_validate({"scenarios": scenarios})
    return rating_log(tuple(f.path for f in MOVIELENS_1M.locate(raw, Path("/nowhere"), options)), options)


def fields(path: Path) -> list[list[str]]:
    return [line.split("::") for line in path.read_text(encoding="latin-1").splitlines()]


@pytest.fixture
def official(raw_movielens: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(raw_movielens, tmp_path / "ml-1m"))


@pytest.fixture
def atomic(raw_movielens: Path, tmp_path: Path) -> Path:
    """The same log as tab-separated files with typed headers; items are titles, users have a prefix."""
    title = {movie: name for movie, name, _ in fields(raw_movielens / "movies.dat")}
    inter = [f"1m_{u}\t{title[m]}\t{r}\t{t}" for u, m, r, t in fields(raw_movielens / "ratings.dat")]
    users = [
        f"1m_{u}\t{age}\t{gender}\t{job}\t{code}" for u, gender, age, job, code in fields(raw_movielens / "users.dat")
    ]
    items = [
        f"{name}\t{name}\t1990\t{kinds.replace('|', ' ')}" for _, name, kinds in fields(raw_movielens / "movies.dat")
    ]
    folder = tmp_path / "atomic"
    folder.mkdir()
    headers = {
        "inter": ("user_id:token\titem_id:token\trating:float\ttimestamp:float", inter),
        "user": ("user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token", users),
        "item": ("item_id:token\tmovie_title:token\trelease_year:float\tgenre:token", items),
    }
    for kind, (header, lines) in headers.items():
        (folder / f"ml-1m.{kind}").write_text("\n".join([header, *lines]))
    return folder


@pytest.mark.parametrize("scenarios", ["age", "genre"])
def test_the_layouts_are_one_table(raw_movielens: Path, atomic: Path, tmp_path: Path, scenarios: str) -> None:
    one, two = table_of(raw_movielens, scenarios), table_of(atomic, scenarios)
    assert one.drop(["movie_id"]).equals(two.drop(["movie_id"]))
    assert two["movie_id"][0].as_py() == f"Film no. {one['movie_id'][0].as_py()} (19{59 + one['movie_id'][0].as_py()})"
    wide = two.select(["user_id", "rating", "age", "gender", "occupation"]).append_column("item_id", two["movie_id"])
    wide = wide.append_column("zip_code", two["zip"]).append_column("genre", pc.binary_join(two["genres"], " "))
    wide = wide.append_column("time", two["time"].cast(pa.timestamp("us"))).append_column(
        "release_year", pa.array([1990] * len(two))
    )
    pq.write_table(wide, tmp_path / "log.parquet")
    assert table_of(tmp_path / "log.parquet", scenarios).equals(two)


def test_columns_mean_what_the_schema_files_say(raw_movielens: Path) -> None:
    table = table_of(raw_movielens)
    first = fields(raw_movielens / "ratings.dat")[0]
    assert [str(table[name][0].as_py()) for name in ("user_id", "movie_id", "rating")] == first[:3]
    assert table["time"].cast(pa.timestamp("s", "UTC")).cast(pa.int64())[0].as_py() == int(first[3])
    assert table["click"].to_pylist() == [int(rating > 3) for rating in table["rating"].to_pylist()]
    assert table["main_genre"].to_pylist() == [genres[0] for genres in table["genres"].to_pylist()]
    group = {1: "1-24", 18: "1-24", 25: "25-34", 35: "35+", 45: "35+", 50: "35+", 56: "35+"}
    assert table["scenario"].to_pylist() == [group[age] for age in table["age"].to_pylist()]
    assert table["row"].to_pylist() == list(range(len(table)))


def test_every_genre_is_in_one_family() -> None:
    members = [genre for family in FAMILIES.values() for genre in family]
    assert len(members) == len(set(members)) == 18


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("ratings.dat", "1::2::3", r"ratings\.dat:4001: 3 fields, expected 4 \(user_id, movie_id, rating, time\)"),
        ("ratings.dat", "1::2::five::975024000", r"ratings\.dat:4001: rating 'five' is not a whole number"),
        ("ratings.dat", "1::2::6::975024000", r"ratings\.dat:4001: rating 6 is not 1, 2, 3, 4 or 5"),
        ("ratings.dat", "1::2::4.5::975024000", r"ratings\.dat:4001: rating '4\.5' is not a whole number"),
        (
            "ratings.dat",
            "1::2::5::975024000000",
            r"ratings\.dat:4001: time 975024000000 is not seconds since 1970 of a day in",
        ),
        ("ratings.dat", "1::2::5::1750240000000000000", r"ratings\.dat:4001: time 1750240000000000000 is not seconds"),
        ("ratings.dat", "1::2::5::-1", r"ratings\.dat:4001: time -1 is not seconds"),
        ("ratings.dat", "61::2::5::975024000", r"ratings\.dat:4001: user_id 61 is not in users\.dat"),
        ("ratings.dat", "1::81::5::975024000", r"ratings\.dat:4001: movie_id 81 is not in movies\.dat"),
        ("users.dat", "61::F::old::3::12345", r"users\.dat:61: age 'old' is not a whole number"),
        ("movies.dat", "x::Film::Drama", r"movies\.dat:81: movie_id 'x' is not a whole number"),
    ],
)
def test_a_bad_line_is_named(official: Path, file: str, line: str, said: str) -> None:
    with (official / file).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(DataError, match=said):
        table_of(official)


def test_a_bad_line_counts_the_header(atomic: Path) -> None:
    path = atomic / "ml-1m.inter"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "1m_1\tFilm no. 1 (1960)\tgood\t975024000"]))
    with pytest.raises(DataError, match=r"ml-1m\.inter:3: rating 'good'"):
        table_of(atomic)


def test_a_genre_of_no_family_is_named(official: Path) -> None:
    path = official / "movies.dat"
    path.write_text(path.read_text().replace("Comedy", "Comedey"))
    with pytest.raises(DataError, match="'Comedey' belongs to no family; did you mean Comedy"):
        table_of(official, "genre")


def test_what_is_missing_is_named(official: Path, tmp_path: Path) -> None:
    (official / "users.dat").unlink()
    with pytest.raises(DataError, match=r"users\.dat is missing"):
        table_of(official)
    with pytest.raises(DataError, match=r"no MovieLens-1M here; expected ratings\.dat.*ml-1m\.inter.*\.parquet"):
        table_of(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        table_of(tmp_path / "absent")


def test_parquet_problems_are_named(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    path.write_text("no parquet")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        table_of(path)
    pq.write_table(pa.table({"user": [1], "item_id": ["x"]}), path)
    with pytest.raises(DataError, match="column 'user_id' is missing; did you mean user"):
        table_of(path)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("rating", 0, "row 1: rating 0 is not 1, 2, 3, 4 or 5"),
        ("rating", None, "row 1: rating None is not 1, 2, 3, 4 or 5"),
        ("rating", 4.5, "column 'rating' is double, expected int64"),
        ("time", 975_024_000_000, "row 1: time 975024000000 is not seconds since 1970 of a day in 1990..2099"),
        ("time", 2**62, f"row 1: time {2**62} is not seconds"),
        ("time", None, "row 1: time None is not seconds"),
        ("time", "soon", "column 'time' is string, expected timestamp"),
        ("time", 1.5, "column 'time' is double, expected timestamp"),
        ("time", datetime(1970, 1, 12, tzinfo=UTC), "row 1: time 950400 is not seconds"),
    ],
)
def test_a_value_that_no_rating_has_is_named_with_its_row(tmp_path: Path, column: str, value: Any, said: str) -> None:
    usual = {"user_id": 1, "item_id": "x", "rating": 5, "time": 975_024_000, "age": 25, "gender": "F", "occupation": 3}
    usual |= {"zip_code": "12345", "genre": "Drama"}
    first = value if type(value) in (str, float, datetime) else usual[column]
    first = datetime(2000, 11, 24, tzinfo=UTC) if isinstance(value, datetime) else first
    columns = {name: [both, both] for name, both in usual.items()} | {column: [first, value]}
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    with pytest.raises(DataError, match=re.escape(said)):
        table_of(tmp_path / "log.parquet")


def test_whole_seconds_of_any_width_are_times(tmp_path: Path) -> None:
    usual = {
        "user_id": 1,
        "item_id": "x",
        "rating": 5,
        "age": 25,
        "gender": "F",
        "occupation": 3,
        "zip_code": "12345",
        "genre": "Drama",
    }
    moments = []
    for kind in (pa.int32(), pa.uint32(), pa.int64(), pa.uint64(), pa.timestamp("s"), pa.timestamp("ns", "UTC")):
        number = 975_024_000 * (10**9 if pa.types.is_timestamp(kind) and kind.unit == "ns" else 1)
        time = pa.array([number], pa.int64()).cast(kind)
        pq.write_table(
            pa.table({name: [value] for name, value in usual.items()} | {"time": time}), tmp_path / "log.parquet"
        )
        moments.append(table_of(tmp_path / "log.parquet")["time"][0].as_py())
    assert moments == [datetime(2000, 11, 24, tzinfo=UTC)] * 6


def test_empty_file_is_an_error(official: Path) -> None:
    (official / "ratings.dat").write_text("\n")
    with pytest.raises(DataError, match=r"ratings\.dat: the file is empty"):
        table_of(official)


def wheel(folder: Path) -> Path:
    """A wheel with one data file, as pip takes it."""
    path = folder / "toy_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toy_data/log.csv", "a,b\n")
        archive.writestr("toy_data/more/log.csv", "c\n")
        archive.writestr("toy_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy-data\nVersion: 1.0\n")
        archive.writestr(
            "toy_data-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("toy_data-1.0.dist-info/RECORD", "")
    return path


@pytest.mark.process
def test_files_in_a_wheel_are_fetched_once_and_only_when_the_hash_is_right(tmp_path: Path) -> None:
    source = wheel(tmp_path)
    right = hashlib.sha256(source.read_bytes()).hexdigest()
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match=f"sha256 is {right}, expected 00; do it by hand"):
        WheelFiles(str(source), "00", ("toy_data/log.csv",)).fetch(cache / "toy", "do it by hand")
    assert list(cache.iterdir()) == []
    files = WheelFiles(str(source), right, ("toy_data/log.csv",)).fetch(cache / "toy", "")
    assert [file.read_text() for file in files] == ["a,b\n"] and list(cache.iterdir()) == [cache / "toy"]
    both = WheelFiles(str(source), right, ("toy_data/log.csv", "toy_data/more/log.csv")).fetch(cache / "both", "")
    assert [file.relative_to(cache / "both") for file in both] == [Path("log.csv"), Path("more/log.csv")]
    assert [file.read_text() for file in both] == ["a,b\n", "c\n"]
    source.unlink()
    assert WheelFiles(str(source), right, ("toy_data/log.csv",)).fetch(cache / "toy", "") == files
    with pytest.raises(DataError, match=r"pip could not fetch it .*; do it by hand"):
        WheelFiles(str(source), right, ("toy_data/log.csv",)).fetch(cache / "other", "do it by hand")
    assert sorted(cache.iterdir()) == [cache / "both", cache / "toy"]


def test_the_whole_data_set_has_the_published_sizes(shared_data: Path) -> None:
    table = table_of(shared_data / "movielens_1m.parquet")
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(table["scenario"]).to_pylist()}
    assert counts == {"1-24": 210_747, "25-34": 395_556, "35+": 393_906}
    assert sum(counts.values()) == DATASETS["movielens-1m"].rows
    sizes = {"user_id": 6040, "movie_id": 3706, "gender": 2, "occupation": 21, "zip": 3439, "main_genre": 18}
    assert {name: pc.count_distinct(table[name]).as_py() for name in sizes} == sizes
