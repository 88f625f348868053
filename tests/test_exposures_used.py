"""What the exposure log is for: its page is true, and an experiment in it can be analysed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from commands import succeeds
from exposed import FIRST, SECOND, answer, logged
from runs import ROOT

from swrec_prod.exposures.schema import BASE

PAGE = (ROOT / "docs" / "exposures.md").read_text()
UNITS, DAY = 400, 86_400_000_000


def test_the_page_has_every_column():
    told = PAGE.partition("\n| column |")[2].partition("\n\n")[0]
    first_cells = " ".join(line.split("|")[1] for line in told.splitlines()[2:])
    assert {*re.findall(r"`([a-z_.<>]+)`", first_cells)} == {*BASE.names, "user.<name>", "items.<name>"}


def test_the_query_of_the_page_has_every_answer_once(tmp_path: Path):
    logged(tmp_path, *(answer(number, (FIRST, SECOND)[: number % 3]) for number in range(9)))
    query = re.search(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[1].replace(
        "build/exposures", str(tmp_path)
    )
    requests = duckdb.sql(query.replace("SELECT *", "SELECT request_id")).fetchall()
    assert sorted(requests) == [(f"r-{number}",) for number in range(9)]
    assert duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/**/*.parquet'").fetchone() == (12,)


def test_an_experiment_in_the_log_is_analysed_with_the_shipped_columns_file(tmp_path: Path):
    """Of 400 units half got `high`, of whose answers three in ten were clicked; of the others' one in ten."""
    log, clicks = tmp_path / "log", []
    variants = [FIRST._replace(variant=name, bucket=0) for name in ("high", "low")]
    answers = []
    for number in range(UNITS):
        variant = variants[number % 2]
        ts = 20_000 * DAY + number
        answers.append(answer(number, (variant, SECOND), unit=f"u{number}", ts=ts))
        is_clicked = number // 2 % 10 < (3 if variant.variant == "high" else 1)
        clicks.append((f"r-{number}", f"u{number}", ts + 1, f"o-{number}", int(is_clicked)))
    logged(log, *answers)
    names = ("request_id", "unit_id", "ts", "event_id", "clicks")
    outcomes = [dict(zip(names, click, strict=True)) for click in clicks]
    pq.write_table(pa.Table.from_pylist(outcomes), tmp_path / "outcomes.parquet")
    columns = yaml.safe_load((ROOT / "configs" / "abtest" / "exposure_log.yaml").read_text())
    columns |= {"where": {"experiment": FIRST.experiment}, "control": "low", "metrics": columns["metrics"][:1]}
    del columns["outcomes"]["pre_days"]
    (tmp_path / "columns.yaml").write_text(yaml.safe_dump(columns))
    given = ("--exposures", log, "--outcomes", tmp_path / "outcomes.parquet", "--columns", tmp_path / "columns.yaml")
    succeeds("abtest", "analyze", *given, "--out", tmp_path / "out")
    told = json.loads((tmp_path / "out" / "experiment.json").read_text())
    lifts = [lift for population in told["populations"] for lift in population["lifts"]]
    assert lifts and {(lift["control"], lift["treatment_value"], lift["verdict"]) for lift in lifts} == {
        (0.1, 0.3, "gain")
    }
