"""RUN_DIR: it is found from anywhere, says how it came to be, and what is damaged or gone is named in a line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from runs import config_of, evaluated, predictions

from swrec_prod.checkpoint import config_of as config_of_run
from swrec_prod.config import RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.errors import CheckpointError, DataError
from swrec_prod.run_dir import RunDir
from swrec_prod.train.run import train


def relative(prepared: Path, path: str) -> RunConfig:
    """One epoch on the folder `path`, named from the working directory."""
    config = config_of(prepared, epochs=1)
    return config.model_copy(update={"data": config.data.model_copy(update={"path": path})})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, prepared_age: Path) -> Path:
    """A folder with prepared data in build/data and a run in build/run, trained from inside it by relative paths."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(prepared_age, folder / "build" / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train(relative(prepared_age, "build/data"), Path("build/run"))
    return folder


def same_scores(run: Path, **where: Path) -> bool:
    table, _ = evaluated(run, **where)
    return np.allclose(table["prob_click"].to_numpy(), predictions(run)["prob_click"], atol=1e-6)


def test_a_run_is_evaluated_from_another_folder(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert same_scores(project / "build" / "run")


def test_a_project_that_moved_is_found_as_a_whole(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(project, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "moved" / "build" / "run"
    assert Path(config_of_run(run).data.path) == tmp_path / "moved" / "build" / "data"
    assert same_scores(run)


def test_a_run_that_moved_alone_finds_its_data_where_they_were(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "build" / "run", tmp_path / "run")
    assert Path(config_of_run(tmp_path / "run").data.path) == project / "build" / "data"
    assert same_scores(tmp_path / "run")


def test_other_data_at_the_same_relative_path_are_not_taken(
    project: Path, tmp_path: Path, prepared_genre: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(prepared_genre, tmp_path / "build" / "data")
    monkeypatch.chdir(tmp_path)
    assert same_scores(project / "build" / "run")


def test_data_that_are_gone_are_named_and_may_be_said(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "moved")
    run, data = tmp_path / "moved" / "build" / "run", tmp_path / "elsewhere"
    (tmp_path / "moved" / "build" / "data").rename(data)
    info = json.loads((run / "run_info.json").read_text())
    info["data"]["path"] = str(tmp_path / "gone")
    (run / "run_info.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match=r"run: its prepared data are not in .*gone \(no manifest\.json\); .*--data"):
        evaluated(run)
    assert same_scores(run, data=data)
    with pytest.raises(DataError, match=rf"are not in {tmp_path / 'nowhere'} \(no manifest"):
        evaluated(run, data=tmp_path / "nowhere")


def test_run_info_says_how_the_run_came_to_be(project: Path) -> None:
    info = RunDir(project / "build" / "run").info()
    assert info is not None and len(info.sessions) == 1
    session, catalog = info.sessions[0], Catalog.open(project / "build" / "data")
    assert info.data.fingerprint == catalog.fingerprint and Path(info.data.path) == project / "build" / "data"
    assert {"python", "torch", "torchrec", "numpy", "pyarrow"} <= session.versions.keys()
    assert (session.ranks, session.device, session.threads) == (1, "cpu", 1) and session.command and session.host
    assert session.seconds is not None and 0 < session.seconds == info.seconds
    assert session.git_commit is None, "the project is no repository"


def test_a_run_that_was_cut_off_has_a_session_more(
    prepared_age: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    config = config_of(prepared_age, epochs=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunDir, "write_metrics", stop)
        train(config, tmp_path / "run")
    train(config, tmp_path / "run")
    info = RunDir(tmp_path / "run").info()
    assert info is not None and len(info.sessions) == 2
    assert info.seconds == sum(session.seconds or 0 for session in info.sessions) > 0


def test_a_run_from_before_run_info_opens(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "old")
    (tmp_path / "old" / "build" / "run" / "run_info.json").unlink()
    assert same_scores(tmp_path / "old" / "build" / "run")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run_info.json", "{", r"run_info\.json: damaged: "),
        ("run_info.json", '{"data": 1}', r"run_info\.json: data: "),
        ("run.yaml", "data: [", r"run\.yaml: not valid YAML: "),
        ("run.yaml", None, r"not a run directory: no run\.yaml; `swrec train RUN\.yaml --out .*` makes one"),
    ],
)
def test_a_damaged_run_is_named_in_a_line(
    project: Path, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    shutil.copytree(project / "build" / "run", tmp_path / "run")
    path = tmp_path / "run" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(Exception, match=message) as failure:
        evaluated(tmp_path / "run")
    assert "\n" not in str(failure.value)


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, reason in ((tmp_path / "file", "it is a file"), (tmp_path / "nowhere", "no such folder")):
        with pytest.raises(CheckpointError, match=f"{path}: not a run directory: {reason}"):
            RunDir(path).config()


def test_unfinished_metrics_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"training has not finished: no metrics\.json; run swrec train again"):
        RunDir(tmp_path).metrics()
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"metrics\.json: damaged: .*; `swrec evaluate"):
        RunDir(tmp_path).metrics()
