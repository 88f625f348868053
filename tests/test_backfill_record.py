"""backfill.json as a record: what is written is what is read, and what cannot be read is said in one line."""

from __future__ import annotations

import json

import backfill_example
import pytest

from swrec_prod.errors import DataError
from swrec_prod.judge.record import BackfillRecord


def test_a_record_is_read_as_it_was_written(tmp_path) -> None:
    example = json.loads(json.dumps(backfill_example.backfill()))
    record = BackfillRecord.model_validate(example)
    record.write(tmp_path)
    assert json.loads((tmp_path / "backfill.json").read_text()) == example
    assert BackfillRecord.read(tmp_path) == record


def test_what_later_versions_add_is_passed_over(tmp_path) -> None:
    example = {**backfill_example.backfill(), "weather": "fine"}
    (tmp_path / "backfill.json").write_text(json.dumps(example))
    assert BackfillRecord.read(tmp_path).mode == "frozen"


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "damaged"), ('{"version": 2}', "version: "), ("{}", "mode: required")],
)
def test_what_is_no_record_is_refused(tmp_path, content: str, message: str) -> None:
    (tmp_path / "backfill.json").write_text(content)
    with pytest.raises(DataError, match=message):
        BackfillRecord.read(tmp_path)


def test_a_folder_without_a_record_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match=r"no backfill\.json; `swrec backfill"):
        BackfillRecord.read(tmp_path)
