"""Open Bandit, small version: 60,000 impressions of a fashion shop in three campaigns, 2019-11-24..30 (Saito, Aihara,
Matsutani and Narita, NeurIPS Datasets 2021).

Two policies showed items side by side, 10,000 impressions of each campaign each: one uniformly at random, one
Bernoulli Thompson sampling (BTS). The campaign is the scenario. A page shows three items, and a row is one of them:

    policy             string     random or bts
    item_id            integer    of the campaign's 80, 34 or 46 items
    position           integer    1, 2 or 3, left to right
    propensity_score   number     how likely the policy was to show that item there
    affinity           number     of the user for the item, as the log counts it
    row                integer    campaign by campaign, random before bts, by time

Users are known by four hashed attributes only, items by a number and three hashes. What else ships in the package is
the prior of BTS at the start of the log (`BTS_PRIOR`), by which its probabilities for items it did not show are known.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from swrec_prod.datasets.raw_files import files_of_layout
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.raw.delimited import read_delimited, require_columns, whole_numbers
from swrec_prod.raw.source import Dataset, RawFile, RawFiles
from swrec_prod.raw.wheel import WheelFiles
from swrec_prod.strict import Strict

if TYPE_CHECKING:
    import ibis.expr.types as ir

CAMPAIGNS = ("all", "men", "women")
POLICIES = ("random", "bts")
WHOLE, NUMBERS = ("item_id", "position", "click"), ("propensity_score",)
USER = tuple(f"user_feature_{i}" for i in range(4))
ITEM = tuple(f"item_feature_{i}" for i in range(4))
COLUMNS = ("policy", "campaign", "timestamp", *WHOLE, *NUMBERS, *USER, *ITEM, "affinity")
FILES = tuple(f"{p}/{c}/{name}.csv" for c in CAMPAIGNS for p in POLICIES for name in (c, "item_context"))
BTS_PRIOR = "policy/conf/prior_bts.yaml"  # below the folder of the unpacked package
WHEEL = WheelFiles(
    "obp==0.4.1",
    "87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208",
    (*(f"obp/dataset/obd/{name}" for name in FILES), f"obp/{BTS_PRIOR}"),
)
HOW_TO_GET = "fetched from PyPI inside the package obp, or --raw DIR with its obp/dataset/obd, or one .parquet file"


class OpenBanditOptions(Strict):
    """policy: whose impressions: of random, bts, or both."""

    policy: Literal["random", "bts", "both"] = "both"

    @property
    def policies(self) -> tuple[str, ...]:
        """Those that are read."""
        return POLICIES if self.policy == "both" else (self.policy,)


def locate(raw: Path | None, cache: Path, options: OpenBanditOptions) -> RawFiles:
    """Logs and items of the six folders, or Parquet files of impressions. Raises DataError naming a missing file."""
    if raw is None:
        files = fetched(cache)
        return tuple(RawFile(path) for path in files if path.suffix == ".csv")
    if raw.suffix == ".parquet" and raw.is_file():
        return (RawFile(raw),)
    pieces = sorted(raw.glob("**/*.parquet")) if raw.is_dir() else []
    if pieces:
        return tuple(RawFile(path) for path in pieces)
    layouts = [[place + name for name in FILES] for place in ("", "obp/dataset/obd/", "dataset/obd/")]
    return files_of_layout(raw, layouts, "Open Bandit", HOW_TO_GET)


def fetched(cache: Path) -> tuple[Path, ...]:
    """The files of the package, the last one BTS_PRIOR's. Raises DataError when they cannot be fetched."""
    return WHEEL.fetch(cache / "open-bandit", "give the folder of an unpacked obp wheel with --raw DIR")


def read(engine: Engine, files: RawFiles, options: OpenBanditOptions) -> ir.Table:
    """The standard table of `impressions`: the log is small, and a row's affinity stands in a column of its item."""
    return engine.from_arrow(impressions(tuple(file.path for file in files), options))


def impressions(files: tuple[Path, ...], options: OpenBanditOptions) -> pa.Table:
    """COLUMNS and row. Raises DataError naming a bad line or a missing column."""
    parquet = [path for path in files if path.suffix == ".parquet"]
    log = _of_parquet(parquet) if parquet else _of_folders(files)
    log = log.append_column("row", pa.array(np.arange(log.num_rows)))
    return log.filter(pc.is_in(log["policy"], pa.array(options.policies)))


def _of_parquet(files: list[Path]) -> pa.Table:
    tables = []
    for path in files:
        try:
            table = pq.ParquetFile(path).read()
            require_columns(table, COLUMNS, path)
            tables.append(table.select(COLUMNS).cast(_schema(table.schema)))
        except (pa.ArrowException, OSError) as failure:
            raise DataError(f"{path}: cannot be read: {' '.join(str(failure).split())}") from None
    return pa.concat_tables(tables).combine_chunks()


def _schema(found: pa.Schema) -> pa.Schema:
    """The types of COLUMNS: moments in microseconds, whole numbers in int64."""
    types = {"timestamp": pa.timestamp("us", "UTC")} | dict.fromkeys(WHOLE, pa.int64())
    types |= dict.fromkeys((*NUMBERS, "affinity", ITEM[0]), pa.float64())
    return pa.schema([(name, types.get(name, found.field(name).type)) for name in COLUMNS])


def _of_folders(files: tuple[Path, ...]) -> pa.Table:
    """files: of each campaign and policy its log and its items, in this order."""
    return pa.concat_tables(map(_folder, files[::2], files[1::2])).combine_chunks()


def _folder(log_file: Path, item_file: Path) -> pa.Table:
    """The impressions of one policy in one campaign, which its two folders name."""
    log, items = read_delimited(log_file, ","), read_delimited(item_file, ",")
    require_columns(log, ("timestamp", *WHOLE, *NUMBERS, *USER), log_file)
    require_columns(items, ("item_id", *ITEM), item_file)
    whole = {name: whole_numbers(log, name, log_file, 2) for name in WHOLE}
    at = pc.index_in(whole["item_id"], whole_numbers(items, "item_id", item_file, 2).combine_chunks())
    if at.null_count:
        row = pc.index(pc.is_null(at), True).as_py()
        raise DataError(f"{log_file}:{row + 2}: item_id {whole['item_id'][row]} is not in {item_file.name}")
    campaign, policy = log_file.parent.name, log_file.parent.parent.name
    constant = {"policy": pa.array([policy] * len(log)), "campaign": pa.array([campaign] * len(log))}
    columns = constant | whole | {name: log[name] for name in USER}
    columns["timestamp"] = _moments(log["timestamp"], log_file)
    columns |= {name: _numbers(log[name], log_file, name) for name in NUMBERS}
    columns |= {name: items[name].take(at) for name in ITEM[1:]}
    columns[ITEM[0]] = _numbers(items[ITEM[0]], item_file, ITEM[0]).take(at)
    columns["affinity"] = _affinity(log, whole["item_id"].to_numpy(), log_file)
    return pa.table({name: columns[name] for name in COLUMNS})


def _affinity(log: pa.Table, item_N: np.ndarray, path: Path) -> pa.Array:
    """Of each row the value of its own item: float64 [N]."""
    values_N = np.empty(len(log))
    for item in np.unique(item_N):
        name = f"user-item_affinity_{item}"
        require_columns(log, (name,), path)
        own_N = item_N == item
        values_N[own_N] = _numbers(log[name], path, name).filter(pa.array(own_N)).to_numpy()
    return pa.array(values_N)


def _moments(column: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    """2019-11-24 00:00:17.004101+00:00 -> timestamp[us, UTC]."""
    try:
        return column.cast(pa.timestamp("us", "UTC"))
    except pa.ArrowInvalid as failure:
        raise DataError(f"{path}: timestamp cannot be read: {' '.join(str(failure).split())}") from None


def _numbers(column: pa.ChunkedArray, path: Path, name: str) -> pa.ChunkedArray:
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid as failure:
        raise DataError(f"{path}: {name} is no number: {' '.join(str(failure).split())}") from None


OPEN_BANDIT = Dataset(
    name="open-bandit",
    summary="items of a fashion shop, shown at random and by Thompson sampling, with propensities",
    rows=60_000,
    size="1 MB, 24 MB unpacked",
    scenarios="3 campaigns: all, men, women",
    licence="Apache 2.0 (the package obp, in which the log ships)",
    how_to_get=HOW_TO_GET,
    data_file="open_bandit.yaml",
    options=OpenBanditOptions,
    locate=locate,
    read=read,
    outcomes=("click", "propensity_score"),
)
