"""KuaiRand: impressions of short videos in 15 places ("tabs") of an app,
2022-04-08..2022-05-08 (Gao et al., CIKM 2022).

Two editions: Pure keeps 7,583 videos of all 27,285 users, 1K keeps everything of 1,000 users. The scenario is the tab.
A click is a click in a two-column feed, and in a one-column feed a view of more than 7 seconds or of the whole video.

What the user did after the impression (OUTCOMES) and for how long (TIMES) may be a label, or known of a behaviour, and
never a feature; the file of video statistics, which averages over the whole month, is left out. Moments are
`time_ms`, days are those of UTC+8; in some rows the log's own `date` and `hourmin` are up to hours away from `time_ms`
and are not used.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.raw.columns import typed_columns, with_attributes
from swrec_prod.raw.download import Archive
from swrec_prod.raw.source import Dataset, RawFile, RawFiles
from swrec_prod.strict import Strict

if TYPE_CHECKING:
    import ibis.expr.types as ir

OUTCOMES = ("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter")
RANGES = (
    "user_active_degree",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
)
COUNTS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
FLAGS = ("is_lowactive_period", "is_live_streamer", "is_video_author")
ONE_HOT = tuple(f"onehot_feat{i}" for i in range(18))
TIMES = ("play_time_ms", "profile_stay_time", "comment_stay_time")
LOG = dict.fromkeys(("user_id", "video_id", "time_ms", "duration_ms", "is_rand", "tab", *OUTCOMES, *TIMES), "int64")
USERS = dict.fromkeys(("user_id", *FLAGS, *COUNTS, *ONE_HOT), "int64") | dict.fromkeys(RANGES, "string")
VIDEOS = dict.fromkeys(
    ("video_id", "author_id", "music_id", "music_type", "video_duration", "server_width", "server_height"), "int64"
)
VIDEOS |= dict.fromkeys(("video_type", "upload_type", "upload_dt", "tag"), "string")
EARLIER = {"watch_seq": "earlier_watched", "like_seq": "earlier_liked", "long_watch_seq": "earlier_long_watched"}
EARLIER_LENGTH = 50
HOUR_MS, BEIJING_MS = 3_600_000, 8 * 3_600_000
PATTERNS = {  # of file names: the official ones, and those of a log cut into Parquet pieces
    "standard": ("log_standard_*.csv", "kuairand_*_standard_*.parquet"),
    "random": ("log_random_*.csv", "kuairand_*_random_*.parquet"),
    "users": ("user_features_*.csv", "kuairand_*_user_features.parquet"),
    "videos": ("video_features_basic_*.csv", "kuairand_*_item_features.parquet"),
    "earlier": ("kuairand_*_user_sequences_to_*.parquet",),
}
ADDRESS = "https://zenodo.org/records/10439422/files"


class KuaiRandOptions(Strict):
    """tabs: the scenarios to keep, all where left out.

    exposures: what the recommender chose, what chance chose, or both.
    """

    tabs: tuple[int, ...] = ()
    exposures: Literal["standard", "random", "all"] = "standard"

    @property
    def logs(self) -> tuple[str, ...]:
        """The keys of PATTERNS that are read."""
        return ("standard", "random") if self.exposures == "all" else (self.exposures,)


def _members(edition: str, options: KuaiRandOptions) -> tuple[str, ...]:
    """Names of the official files that are needed."""
    names = ["log_standard_4_08_to_4_21", "log_standard_4_22_to_5_08"] if "standard" in options.logs else []
    names += ["log_random_4_22_to_5_08"] if "random" in options.logs else []
    return tuple(f"{name}_{edition}.csv" for name in (*names, "user_features", "video_features_basic"))


def locate(edition: str, folder: str, md5: str, raw: Path | None, cache: Path, options: KuaiRandOptions) -> RawFiles:
    """The raw files in the official layout or as Parquet pieces. Raises DataError naming a missing file.

    edition: pure or 1k, as in file names; folder: its name in the archive with that `md5`.
    """
    if raw is None:
        everything = _members(edition, KuaiRandOptions(exposures="all"))
        archive = Archive(f"{ADDRESS}/{folder}.tar.gz", md5, tuple(f"{folder}/data/{name}" for name in everything))
        raw = archive.fetch(cache / folder.lower(), f"give the folder of an unpacked {folder}.tar.gz with --raw DIR")[
            0
        ].parent
    for place in (raw / folder / "data", raw / "data", raw):
        names = _members(edition, options)
        missing = [name for name in names if not (place / name).is_file()]
        if len(missing) < len(names):
            if missing:
                raise DataError(f"{place}: {missing[0]} is missing")
            return tuple(RawFile(place / name) for name in names)
    return _pieces(edition, raw, options)


def _pieces(edition: str, raw: Path, options: KuaiRandOptions) -> RawFiles:
    """The Parquet files of `raw`: logs, users and videos, and earlier behaviours where there are some."""
    files: list[RawFile] = []
    for role in (*options.logs, "users", "videos", "earlier"):
        pattern = PATTERNS[role][-1].replace("*", edition, 1)
        paths = sorted(raw.glob(pattern))
        if not paths and role != "earlier":
            raise DataError(f"{raw}: neither {', '.join(_members(edition, options))} nor {pattern} here")
        files += [RawFile(path) for path in paths]
    return tuple(files)


def read(engine: Engine, files: RawFiles, options: KuaiRandOptions) -> ir.Table:
    """The standard table: user_id, video_id, time, scenario, click, the other OUTCOMES, TIMES, is_rand, hour (0..23 in
    UTC+8), duration_ms, the columns of USERS and VIDEOS with `tags` a list, and with a file of earlier behaviours the
    lists named in EARLIER.
    """
    log = typed_columns(engine, [path for role in options.logs for path in _of(files, role)], LOG)
    if options.tabs:
        log = log.filter(log["tab"].isin(options.tabs))
    for role, key, types in (("users", "user_id", USERS), ("videos", "video_id", VIDEOS)):
        paths = _of(files, role)
        log = with_attributes(log, typed_columns(engine, paths, types), (key,), paths[0].name)
    if _of(files, "earlier"):
        log = _with_earlier(engine, log, _of(files, "earlier"))
    return log.mutate(
        time=log["time_ms"] * 1000,
        scenario=log["tab"].cast("string"),
        click=log["is_click"],
        hour=(log["time_ms"] + BEIJING_MS) // HOUR_MS % 24,
        tags=log["tag"].re_split(","),
    ).drop("time_ms", "tab", "is_click", "tag")


def _of(files: RawFiles, role: str) -> list[Path]:
    return [file.path for file in files if any(file.path.match(pattern) for pattern in PATTERNS[role])]


def _with_earlier(engine: Engine, log: ir.Table, files: list[Path]) -> ir.Table:
    """The videos that a user watched, liked and watched long before the log began, oldest first;
    the latest EARLIER_LENGTH of them.

    The log was cut by `date`, so that a few users have earlier behaviours later than their first rows: such rows have
    none.
    """
    import ibis

    table = engine.parquet(files)
    last = {name: table[name][(table[name].length() - EARLIER_LENGTH).clip(lower=0) :] for name in EARLIER}
    table = table.select(
        "user_id", earlier_until="last_time_ms", **{EARLIER[name]: values for name, values in last.items()}
    )
    joined = with_attributes(log, table, ("user_id",), files[0].name)
    before = joined["earlier_until"] < joined["time_ms"]
    known = {name: before.ifelse(joined[name], ibis.null(joined[name].type())) for name in EARLIER.values()}
    return joined.mutate(**known).drop("earlier_until")


def _edition(edition: str, folder: str, md5: str, rows: int, size: str, summary: str) -> Dataset:
    """What both editions share."""
    return Dataset(
        name=folder.lower(),
        summary=f"short videos, {summary}; also likes, long views and random exposures",
        rows=rows,
        size=size,
        scenarios="15 tabs of the app; the data file keeps the five largest",
        licence="CC BY-SA 4.0",
        how_to_get=f"fetched from zenodo.org/records/10439422, or --raw DIR with {folder}.tar.gz unpacked",
        data_file=f"kuairand_{edition}.yaml",
        options=KuaiRandOptions,
        locate=partial(locate, edition, folder, md5),
        read=read,
        outcomes=("click", *OUTCOMES[1:], *TIMES),  # is_click is called click
    )


PURE = ("pure", "KuaiRand-Pure", "0820331067a3784d9691136f772b35a7")  # the MD5s are those of the authors' README
ONE_K = ("1k", "KuaiRand-1K", "6b0b9c8222d67fcd4c676218edca3f1f")
KUAIRAND_PURE = _edition(*PURE, 1_436_609, "45 MB, 194 MB unpacked", "7,583 videos and 27,285 users")
KUAIRAND_1K = _edition(*ONE_K, 11_713_045, "1.1 GB, 1.2 GB of it unpacked", "all impressions of 1,000 users")
