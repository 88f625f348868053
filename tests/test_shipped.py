"""Shipped data and run files are found by name from any folder; a path to a file of one's own wins."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from swrec_prod import shipped
from swrec_prod.config import RunConfig
from swrec_prod.errors import ConfigError, DataError
from swrec_prod.prepare.data_file import DataFile

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of each test: an empty one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_shipped_file_has_a_name() -> None:
    for kind in ("data", "run"):
        files = sorted((CONFIGS / kind).iterdir())
        assert [shipped.find(kind, name) for name in shipped.names(kind)] == files and files


@pytest.mark.parametrize(
    "name", ["movielens_mscan", "movielens-mscan", "movielens_mscan.yaml", "configs/run/movielens_mscan.yaml"]
)
def test_a_run_file_is_found_by_name(name: str) -> None:
    assert RunConfig.load(name) == RunConfig.load(CONFIGS / "run" / "movielens_mscan.yaml")


@pytest.mark.parametrize(
    "name", ["movielens_1m_genre", "movielens-1m-genre", "configs/data/movielens_1m_genre.yaml", "movielens-1m"]
)
def test_a_data_file_is_found_by_name(name: str) -> None:
    file = "movielens_1m_genre" if "genre" in name else "movielens_1m_age"
    assert DataFile.load(name) == DataFile.load(CONFIGS / "data" / f"{file}.yaml")


@pytest.mark.parametrize("name", ["movielens_mscan", "movielens_mscan.yaml", "configs/run/movielens_mscan.yaml"])
def test_a_file_of_ones_own_wins(name: str, elsewhere: Path) -> None:
    (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(CONFIGS / "run" / "kuairand_mscan.yaml", elsewhere / name)
    assert RunConfig.load(name) == RunConfig.load("kuairand_mscan") != RunConfig.load("movielens-mscan")


def test_a_folder_called_like_a_dataset_is_not_mistaken_for_a_file(elsewhere: Path) -> None:
    for name in ("movielens-1m", "movielens_mscan"):
        (elsewhere / name).mkdir()
    assert DataFile.load("movielens-1m").source == "movielens-1m" and RunConfig.load("movielens_mscan")


@pytest.mark.parametrize("name", ["kuairand_mscam", "kuairand_mscam.yaml", "configs/run/kuairand_mscam.yaml"])
def test_a_misspelt_name_is_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name}: no such file, and no run file .* did you mean kuairand_mscan\?"):
        RunConfig.load(name)
    with pytest.raises(DataError, match=r"^movielens-1m-gnre: .* did you mean movielens-1m-genre\?"):
        DataFile.load("movielens-1m-gnre")


def test_a_path_is_shown_as_one_would_write_it_here(elsewhere: Path) -> None:
    assert shipped.shown(elsewhere / "configs" / "x.yaml") == "configs/x.yaml"
    assert shipped.shown(shipped.CONFIGS) == str(CONFIGS)
