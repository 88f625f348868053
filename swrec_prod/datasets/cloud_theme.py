"""Cloud Theme Click Dataset of Taobao (Du et al., KDD 2019):
1,423,835 clicks of 720,210 users in 355 themes, December 2018.

    theme_click_log.csv   user_id, theme_id, item_id, leaf_cate_id, cate_level1_id, clk_cnt, reach_time (20181207093000)

The other files of the release are not read: theme_item_pool.csv (theme_id, item_id), user_item_purchase_log.csv
(user_id, item_id, paytime), user_embedding.csv and item_embedding.csv. A theme is a scenario. clk_cnt counts clicks: it
is a label and never a feature. Times have no zone and are taken as UTC.

The release has clicks only: what was shown and not clicked is not known, so the rows with click 0 are made, not
observed. To each click `negatives` items are drawn, each alike, from those that anybody clicked in the same theme on
the same day; a draw of what the user clicked at any time is dropped, and so is a second draw of the same item. They
have the user and time of their click. M-scan draws two from all of a theme's items (and keeps what the user clicked
before), which lets items appear before their first day. A draw is a function of the click alone, and the same on every
engine. AUC on drawn negatives says how well clicked items are distinguished from other popular ones; probabilities are
those of the drawn mixture.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from swrec_prod.datasets.raw_files import files_of_layout
from swrec_prod.engine.contract import Engine
from swrec_prod.raw.columns import typed_columns
from swrec_prod.raw.moment import DAY, SECOND, digits_micros
from swrec_prod.raw.source import Dataset, RawFiles
from swrec_prod.strict import Strict

if TYPE_CHECKING:
    import ibis.expr.types as ir

CLICKS = "theme_click_log.csv"
KEYS = ("user_id", "theme_id", "item_id", "leaf_cate_id", "cate_level1_id")
TYPES = {**dict.fromkeys(KEYS, "int64"), "reach_time": "string"}
ITEM = ("item_id", "leaf_cate_id", "cate_level1_id")
PRIME = 2**31 - 1  # products of two numbers below it fit into int64
FACTOR = 1_103_515_245
HOW_TO_GET = (
    "log in at tianchi.aliyun.com/dataset/9716 and accept its terms, "
    "then --raw DIR with theme_click_log.csv unpacked there"
)


class CloudThemeOptions(Strict):
    """negatives: how many are drawn to each click; 0 leaves a log of clicks only, to add rows of your own.

    seed: of the draw.
    """

    negatives: int = pydantic.Field(2, ge=0, le=100)
    seed: int = pydantic.Field(1, ge=0, lt=2**31)


def locate(raw: Path | None, cache: Path, options: CloudThemeOptions) -> RawFiles:
    """The click log. Raises DataError when it is missing."""
    return files_of_layout(raw, [[CLICKS]], "Cloud Theme", HOW_TO_GET)


def read(engine: Engine, files: RawFiles, options: CloudThemeOptions) -> ir.Table:
    """The standard table: user_id, item_id, leaf_cate_id, cate_level1_id, scenario, time, hour, click."""
    import ibis

    log = typed_columns(engine, [file.path for file in files], TYPES)
    clicks = log.select(*KEYS, time=digits_micros(log.reach_time))
    rows = clicks.mutate(click=ibis.literal(1, "int8"))
    if options.negatives:
        rows = ibis.union(rows, _drawn(clicks, options).mutate(click=ibis.literal(0, "int8")).select(rows.columns))
    hour = rows.time % DAY // (DAY // 24)
    return rows.select("user_id", *ITEM, "time", "click", scenario=rows.theme_id.cast("string"), hour=hour)


def _drawn(clicks: ir.Table, options: CloudThemeOptions) -> ir.Table:
    """Rows like `clicks` of items that the user never clicked."""
    import ibis

    clicks = clicks.mutate(day=clicks.time // DAY)
    categories = {name: clicks[name].min() for name in ITEM[1:]}
    pool = clicks.group_by("theme_id", "day", "item_id").agg(**categories)
    group = ibis.window(group_by=("theme_id", "day"), order_by="item_id")
    pool = pool.mutate(place=ibis.row_number().over(group))
    sizes = pool.group_by("theme_id", "day").agg(size=pool.count())
    wishes = clicks.drop(*ITEM[1:]).join(sizes, ["theme_id", "day"])
    wishes = wishes.mutate(draw=ibis.array(list(range(options.negatives)))).unnest("draw")
    wishes = wishes.select("user_id", "theme_id", "time", "day", place=_scattered(wishes, options.seed) % wishes.size)
    drawn = wishes.join(pool, ["theme_id", "day", "place"]).select(*KEYS, "time").distinct()
    return drawn.anti_join(clicks, ["user_id", "item_id"])


def _scattered(wishes: ir.Table, seed: int) -> ir.IntegerColumn:
    """A number below PRIME that is scattered over user, item, theme, time and draw: a polynomial hash, squared."""
    mixed = wishes.user_id % PRIME + seed * FACTOR % PRIME
    for value in (wishes.item_id, wishes.theme_id, wishes.time // SECOND, wishes.draw.cast("int64")):
        mixed = mixed % PRIME * FACTOR + value % PRIME
    return (mixed % PRIME) * (mixed % PRIME) % PRIME


CLOUD_THEME = Dataset(
    name="cloud-theme",
    summary="clicks in themes of a shopping app; rows without a click are drawn, not observed",
    rows=4_270_000,
    size="not stated",
    scenarios="355 themes",
    licence="not stated here; the dataset page's terms (Alibaba Tianchi, log in)",
    how_to_get=HOW_TO_GET,
    data_file="cloud_theme.yaml",
    options=CloudThemeOptions,
    locate=locate,
    read=read,
    outcomes=("click",),
)
