r"""Ali-CCP: impressions of Taobao's recommender, with clicks and conversions (Ma et al., SIGIR 2018).

Two files a split, without a header. A sample names a line of common features (those of a user's visit), and both end
with a list of features `field \x02 id \x03 value`, separated by \x01:

    sample_skeleton_{train,test}.csv    sample_id, click, conversion, common_feature_index, feature_num, feature_list
    common_features_{train,test}.csv    common_feature_index, feature_num, feature_list

The scenario is field 301, the place of the impression. A conversion counts only where the row was clicked. Values of
features (weights of multi-valued fields) are not used.

There are no times. The train files are earlier than the test files, so three made-up days stand for time, DAYS: test
rows are of the third, one in eight visits of the train files of the second, the other ones of the first. All rows of a
day have the same time, so no row sees behaviours of its own day.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.raw.columns import with_attributes
from swrec_prod.raw.source import Dataset, RawFile, RawFiles
from swrec_prod.strict import Strict

if TYPE_CHECKING:
    import ibis.expr.types as ir

SKELETON = {"sample_id": "int64", "click": "int64", "conversion": "int64", "common_feature_index": "string"}
SKELETON |= {"feature_num": "int64", "feature_list": "string"}
COMMON = {"common_feature_index": "string", "feature_num": "int64", "feature_list": "string"}
SCENARIO = "301"
USER_FIELDS = ("101", "121", "122", "124", "125", "126", "127", "128", "129")
USER_BAGS = ("109_14", "110_14", "127_14", "150_14")
SAMPLE_FIELDS = ("205", "206", "207", "216", "508", "509", "702")
SAMPLE_BAGS = ("210", "853")
SPLITS = ("train", "test")
FILES = tuple(f"{kind}_{split}.csv" for split in SPLITS for kind in ("sample_skeleton", "common_features"))
DAY = 86_400_000_000
DAYS = {"train": 10_957 * DAY, "valid": 10_958 * DAY, "test": 10_959 * DAY}  # 2000-01-01, -02, -03
VALID = ("0", "1")  # last digits of the visits, hexadecimal hashes, that make the second day
HOW_TO_GET = (
    "--raw DIR with sample_train.tar.gz and sample_test.tar.gz unpacked, "
    "from tianchi.aliyun.com/dataset/408 (needs an account)"
)


class AliCcpOptions(Strict):
    """Nothing to choose."""


def locate(raw: Path | None, cache: Path, options: AliCcpOptions) -> RawFiles:
    """The four files. Raises DataError naming a missing one."""
    if raw is None:
        raise DataError(f"ali-ccp: cannot be fetched; get it by hand: {HOW_TO_GET}")
    for name in FILES:
        if not (raw / name).is_file():
            raise DataError(f"{raw}: {name} is missing (the layout is {', '.join(FILES)})")
    return tuple(RawFile(raw / name) for name in FILES)


def read(engine: Engine, files: RawFiles, options: AliCcpOptions) -> ir.Table:
    """The standard table: row, time, scenario, click, conversion, and a column f<field> for each field: f101 is the
    user, f205 the item.

    USER_BAGS and SAMPLE_BAGS are lists, everything is a string. Lines of the common files join with samples of the same
    split only; a visit on two lines, which would multiply its samples, fails when the table is evaluated.
    """
    import ibis

    paths = {file.path.name: file.path for file in files}
    return ibis.union(*(_split(engine, paths, split) for split in SPLITS))


def _split(engine: Engine, paths: dict[str, Path], split: str) -> ir.Table:
    """The rows of one split."""
    samples = engine.text([paths[f"sample_skeleton_{split}.csv"]], SKELETON)
    common = engine.text([paths[f"common_features_{split}.csv"]], COMMON)
    visits = common.select("common_feature_index", **_fields(common, USER_FIELDS, USER_BAGS))
    rows = samples.select(
        "common_feature_index",
        row=samples["sample_id"] * 2 + SPLITS.index(split),  # samples are numbered from 1 in both splits
        time=_time(samples, split),
        scenario=one_value(samples["feature_list"], SCENARIO),
        click=samples["click"],
        conversion=samples["conversion"] * samples["click"],
        **_fields(samples, SAMPLE_FIELDS, SAMPLE_BAGS),
    )
    return with_attributes(rows, visits, ("common_feature_index",), f"common_features_{split}.csv").drop(
        "common_feature_index"
    )


def _time(samples: ir.Table, split: str) -> ir.Value:
    import ibis

    if split == "test":
        return ibis.literal(DAYS["test"], "int64")
    held_out = samples["common_feature_index"].right(1).isin(VALID)
    return held_out.ifelse(ibis.literal(DAYS["valid"], "int64"), ibis.literal(DAYS["train"], "int64"))


def _fields(table: ir.Table, single: tuple[str, ...], several: tuple[str, ...]) -> dict[str, ir.Value]:
    features = table["feature_list"]
    columns: dict[str, ir.Value] = {f"f{field}": one_value(features, field) for field in single}
    return columns | {f"f{field}": all_values(features, field) for field in several}


def one_value(features: ir.StringValue, field: str) -> ir.Value:
    """The id of a field that a list holds at most once; missing where it is not there."""
    return features.re_extract(rf"(?:^|\x01){field}\x02([^\x03]*)\x03", 1).nullif("")


def all_values(features: ir.StringValue, field: str) -> ir.Value:
    """The ids of a field in the order of the list."""
    of_field = features.re_split("\x01").filter(lambda feature: feature.startswith(f"{field}\x02"))
    return of_field.map(lambda feature: feature.re_extract(r"\x02([^\x03]*)\x03", 1))


ALI_CCP = Dataset(
    name="ali-ccp",
    summary="impressions of an online shop with clicks and conversions; times are made up from the published split",
    rows=85_316_519,
    size="about 9 GB, several times that unpacked",
    scenarios="3 places of an impression (field 301), of which the smallest has 0.75 % of the rows",
    licence="not stated with the files; published for research, with the terms of Tianchi, which asks for an account",
    how_to_get=HOW_TO_GET,
    data_file="ali_ccp.yaml",
    options=AliCcpOptions,
    locate=locate,
    read=read,
    outcomes=("click", "conversion"),
)
