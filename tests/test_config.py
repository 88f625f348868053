"""A run file says which days are for what: the parts come one after the other."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swrec_prod.config import DataConfig, DayRanges, RunConfig, day_range
from swrec_prod.errors import ConfigError
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.strict import parse

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RANGES = st.tuples(st.integers(0, 12), st.integers(0, 3))


def day(number: int) -> date:
    return date(2024, 1, 1) + timedelta(days=number)


def data_of(train: str, valid: str, test: str) -> DataConfig:
    return parse(DataConfig, {"path": "p", "days": {"train": train, "valid": valid, "test": test}}, "run.yaml: data")


@given(st.tuples(RANGES, RANGES, RANGES))
def test_parts_that_share_a_day_or_come_in_another_order_are_refused(ranges: tuple[tuple[int, int], ...]) -> None:
    texts = [f"{day(first)}..{day(first + more)}" for first, more in ranges]
    days = [first + i for first, more in ranges for i in range(more + 1)]
    if days == sorted(set(days)):
        assert data_of(*texts).days == DayRanges(train=texts[0], valid=texts[1], test=texts[2])
    else:
        with pytest.raises(ConfigError, match=r"days\.(train|valid) .* must end before days\.(valid|test) .* begins"):
            data_of(*texts)


def test_open_ends_reach_to_the_neighbouring_part_only() -> None:
    assert data_of("..2024-01-02", "2024-01-03", "2024-01-04..").days is not None
    for texts, said in (
        (
            ("2024-01-01..", "2024-01-03", "2024-01-04.."),
            r"days\.train 2024-01-01\.\. must end before days\.valid 2024-01-03 begins",
        ),
        (
            ("2024-01-01", "2024-01-03..", "2024-01-04"),
            r"days\.valid 2024-01-03\.\. must end before days\.test 2024-01-04 begins",
        ),
        (
            ("2024-01-01", "..2024-01-03", "2024-01-04"),
            r"days\.train 2024-01-01 must end before days\.valid \.\.2024-01-03 begins",
        ),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            data_of(*texts)
        assert "\n" not in str(caught.value)


def test_no_range_is_needed_where_the_split_is_random_and_one_for_each_part_elsewhere() -> None:
    assert DataConfig(path="p", split="random").days is None
    with pytest.raises(ConfigError, match="split: days needs days"):
        parse(DataConfig, {"path": "p"}, "run.yaml: data")
    with pytest.raises(ConfigError, match=r"days\.test"):
        parse(DataConfig, {"path": "p", "days": {"train": "2024-01-01", "valid": "2024-01-02"}}, "run.yaml: data")


def test_scenarios_are_names_though_yaml_reads_numbers() -> None:
    def scenarios(given: object) -> object:
        return parse(DataConfig, {"path": "p", "split": "random", "scenarios": given}, "run.yaml: data").scenarios

    assert scenarios([1, "02", "home"]) == ("1", "02", "home") and scenarios(None) is None
    assert scenarios("home") == ("home",) and scenarios(1) == ("1",), (
        "as data.scenarios=home on the command line gives it"
    )
    for wrong in ([], {"home": 1}, True, [True]):
        with pytest.raises(ConfigError, match=r"run\.yaml: data: scenarios"):
            scenarios(wrong)


SHIPPED = [file for file in sorted((CONFIGS / "run").glob("*.yaml")) if not file.stem.startswith("simulated")]


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)  # swrec simulate writes the others' data files
def test_the_run_files_judge_by_days_that_their_data_files_do_not_fit(file: Path) -> None:
    data = RunConfig.load(file).data
    prepared = DataFile.load(CONFIGS / "data" / f"{Path(data.path).name}.yaml")
    assert (data.split == "random") == (prepared.split is not None)
    if data.days:
        assert prepared.fit_until is not None and prepared.fit_until < day_range(data.days.valid)[0]
