"""Open Bandit: the files of its package and one Parquet file of impressions are one table, which a data file of a page
takes to a judged model.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from swrec_prod.datasets.open_bandit import CAMPAIGNS, COLUMNS, OPEN_BANDIT, POLICIES, OpenBanditOptions, impressions
from swrec_prod.errors import DataError
from swrec_prod.shipped import find
from tests.commands import succeeds
from tests.dated_log import manifest_of

pytestmark = pytest.mark.engine

FETCHED = Path.home() / ".cache" / "swrec" / "open-bandit" / "dataset" / "obd"
ITEMS = {"all": 4, "men": 3, "women": 2}

RUN = {
    "data": {
        "path": "",
        "split": "days",
        "days": {"train": "..2019-11-28", "valid": "2019-11-29", "test": "2019-11-30"},
    },
    "model": {"name": "shared_bottom"},
    "train": {"epochs": 1, "batch_size": 2048},
}


def write(folder: Path) -> Path:
    """Six logs of five days, 40 rows each, in the package's layout."""
    draw = np.random.default_rng(6)
    for policy in POLICIES:
        for campaign in CAMPAIGNS:
            place = folder / policy / campaign
            place.mkdir(parents=True)
            (place / "item_context.csv").write_text("\n".join(_items(ITEMS[campaign])) + "\n")
            (place / f"{campaign}.csv").write_text("\n".join(_log(ITEMS[campaign], draw)) + "\n")
    return folder


def _items(items: int) -> list[str]:
    return [",item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3"] + [
        f"{i},{i},{i / 2},a{i},b{i % 2},c" for i in range(items)
    ]


def _log(items: int, draw: np.random.Generator) -> list[str]:
    """An item's affinity is ten times the row plus the item."""
    names = ["", "timestamp", "item_id", "position", "click", "propensity_score"]
    names += [f"user_feature_{i}" for i in range(4)] + [f"user-item_affinity_{i}" for i in range(items)]
    lines = [",".join(names)]
    for row in range(40):
        moment = f"2019-11-{24 + row // 8} 00:00:{row:02d}.5+00:00"
        values = [row, moment, draw.integers(items), draw.integers(1, 4), row % 2, 1 / items, "x", "y", "z", row % 3]
        lines.append(",".join(map(str, [*values, *(10.0 * row + item for item in range(items))])))
    return lines


def table_of(raw: Path, policy: str = "both") -> pa.Table:
    options = OpenBanditOptions.model_validate({"policy": policy})
    return impressions(tuple(file.path for file in OPEN_BANDIT.locate(raw, Path("/nowhere"), options)), options)


def test_a_row_has_its_folders_its_item_and_the_affinity_for_it(tmp_path: Path) -> None:
    table = table_of(write(tmp_path))
    assert table.num_rows == 240 and table["row"].to_pylist() == list(range(240))
    blocks = [(row["campaign"], row["policy"]) for row in table.slice(0, 240).to_pylist()[::40]]
    assert blocks == [(campaign, policy) for campaign in CAMPAIGNS for policy in POLICIES]
    for n, row in enumerate(table.to_pylist()):
        assert row["affinity"] == 10 * (n % 40) + row["item_id"]
        assert (row["item_feature_0"], row["item_feature_1"]) == (row["item_id"] / 2, f"a{row['item_id']}")
    assert table["timestamp"][9].as_py().isoformat() == "2019-11-25T00:00:09.500000+00:00"


def test_one_policy_keeps_the_numbers_of_its_rows(tmp_path: Path) -> None:
    both = table_of(write(tmp_path))
    assert table_of(tmp_path, "bts").equals(both.filter(pc.equal(both["policy"], "bts")))


def test_one_parquet_file_is_the_same_table(tmp_path: Path) -> None:
    both = table_of(write(tmp_path / "csv"))
    pq.write_table(both.select(COLUMNS), tmp_path / "log.parquet")
    assert table_of(tmp_path / "log.parquet").equals(both)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("40,2019-11-30 00:00:00+00:00,9,1,0,0.5,x,y,z,0,1,2,3", r"men\.csv:42: item_id 9 is not in item_context\.csv"),
        ("40,2019-11-30 00:00:00+00:00,one,1,0,0.5,x,y,z,0,1,2,3", r"men\.csv:42: item_id 'one' is not a whole number"),
        ("40,yesterday,1,1,0,0.5,x,y,z,0,1,2,3", r"men\.csv: timestamp cannot be read: .*yesterday"),
        ("40,2019-11-30 00:00:00+00:00,1,1,0,half,x,y,z,0,1,2,3", r"men\.csv: propensity_score is no number: .*half"),
        ("40,2019-11-30", r"men\.csv:42: 2 fields, expected 13"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    with (write(tmp_path) / "bts" / "men" / "men.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=said):
        table_of(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no Open Bandit here"):
        table_of(tmp_path)
    (write(tmp_path / "csv") / "bts" / "men" / "men.csv").unlink()
    with pytest.raises(DataError, match=r"bts/men/men\.csv is missing"):
        table_of(tmp_path / "csv")
    pq.write_table(pa.table({"policy": ["bts"]}), tmp_path / "log.parquet")
    with pytest.raises(DataError, match="column 'campaign' is missing"):
        table_of(tmp_path / "log.parquet")


def test_the_package_is_the_published_parquet_file_row_for_row(shared_data: Path) -> None:
    if not FETCHED.is_dir():
        pytest.skip("not fetched (`swrec prepare open-bandit --out DIR` fetches it)")
    assert table_of(FETCHED).equals(table_of(shared_data / "open_bandit_small.parquet"))


@pytest.mark.slow
def test_a_position_may_be_part_of_the_scenario(shared_data: Path, tmp_path: Path) -> None:
    """As docs/debiasing.md has it: then the eliminator takes both out."""
    shipped = find("data", "open_bandit")
    assert shipped is not None
    plain = yaml.safe_load(shipped.read_text())
    schema = plain["schema"]
    schema["derived"] = [{"name": "place", "function": "cross", "of": ["campaign", "position"]}]
    schema["scenario"] = {"column": "place"}
    schema["features"] = [feature for feature in schema["features"] if feature["name"] != "position"]
    (tmp_path / "places.yaml").write_text(yaml.safe_dump(plain))
    raw, out = shared_data / "open_bandit_small.parquet", tmp_path / "prepared"
    succeeds("prepare", tmp_path / "places.yaml", "--raw", raw, "--out", out)
    found: Counter[str] = Counter()
    for day in manifest_of(out)["scenarios"].values():
        found.update({place: traffic["rows"] for place, traffic in day.items() if traffic["rows"]})
    log = pq.read_table(raw, columns=["campaign", "position"]).to_pylist()
    assert found == Counter(f"{row['campaign']}|{row['position']}" for row in log) and len(found) == 9


@pytest.mark.slow
def test_a_short_data_file_takes_the_log_as_it_is(shared_data: Path, tmp_path: Path) -> None:
    file, raw, out = find("data", "open_bandit"), shared_data / "open_bandit_small.parquet", tmp_path / "prepared"
    assert file is not None and len(file.read_text().splitlines()) <= 30
    succeeds("prepare", "open-bandit", "--raw", raw, "--out", out)
    manifest, log = manifest_of(out), pq.read_table(raw)
    assert manifest["rows"] == log.num_rows == 60_000 and not any(manifest["nulls"].values())
    clicks = {scenario: 0 for scenario in ("all", "men", "women")}
    for day in manifest["scenarios"].values():
        for scenario, traffic in day.items():
            clicks[scenario] += traffic["positives"]["click"]
    wanted = log.group_by("campaign").aggregate([("click", "sum")]).to_pylist()
    assert clicks == {row["campaign"]: row["click_sum"] for row in wanted}
    assert manifest["fit"]["until"] == "2019-11-28"
    assert manifest["fit"]["rows"] == pc.sum(pc.less(pc.day(log["timestamp"]), 29)).as_py()
    run = tmp_path / "run.yaml"
    run.write_text(yaml.safe_dump(RUN | {"data": RUN["data"] | {"path": str(out)}}))
    succeeds("train", run, "--out", tmp_path / "run")
    scored = pq.read_table(tmp_path / "run" / "predictions.parquet")
    assert len(scored) == pc.sum(pc.equal(pc.day(log["timestamp"]), 30)).as_py()
