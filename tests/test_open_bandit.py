"""Open Bandit's impressions as they are: a data file of a page takes them to a judged model."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from swrec_prod.shipped import find
from tests.commands import succeeds
from tests.dated_log import manifest_of

pytestmark = [pytest.mark.engine, pytest.mark.slow]

RUN = {
    "data": {
        "path": "",
        "split": "days",
        "days": {"train": "..2019-11-28", "valid": "2019-11-29", "test": "2019-11-30"},
    },
    "model": {"name": "shared_bottom"},
    "train": {"epochs": 1, "batch_size": 2048},
}


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
