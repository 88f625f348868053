"""The report of KuaiRand's backfill: the commands that it runs, and a page that says what they found."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

import pytest
import typer

from benchmarks.judging.backfill_page import write_page
from benchmarks.judging.backfill_report import MODELS, steps
from swrec_prod.cli import app
from swrec_prod.config import RunConfig
from swrec_prod.errors import DataError
from swrec_prod.judge.record import BackfillRecord, Contrast, Figures, JudgedDay, JudgedModel

DAYS = (date(2022, 5, 2), date(2022, 5, 3))


def figures(auc: float | None, scenario: str | None = None, rows: int = 1000) -> Figures:
    metrics = dict.fromkeys(("gauc", "logloss", "ne", "calibration"), 0.5) | {"auc": auc}
    return Figures(
        task="click",
        part="scenario" if scenario else "overall",
        scenario=scenario,
        rows=rows,
        positives=rows // 4,
        metrics=metrics,
        intervals={} if auc is None else {"auc": (auc - 0.01, auc + 0.01)},
    )


def judged(name: str, *aucs: float) -> JudgedModel:
    days = tuple(
        JudgedDay(day=day, trained_through=None, figures=(figures(auc),)) for day, auc in zip(DAYS, aucs, strict=True)
    )
    macro = figures(0.6).model_copy(update={"part": "macro"})
    pooled = (figures(sum(aucs) / 2), macro, figures(0.66, "1"), figures(None, "9", 40))
    return JudgedModel(name=name, kind="run", path=name, days=days, pooled=pooled)


@pytest.fixture
def found(tmp_path: Path) -> Path:
    """A folder with a finished backfill of the frozen mode."""
    contrast = Contrast(
        challenger="mmoe",
        champion="shared_bottom",
        task="click",
        part="overall",
        rows=2000,
        positives=500,
        users=90,
        value=0.0123,
        error=0.002,
        low=0.0083,
        high=0.0163,
        p=1e-6,
        adjusted_p=1e-6,
        significant=True,
        days=(),
    )
    BackfillRecord(
        mode="frozen",
        days=DAYS,
        data="data",
        data_fingerprint="f00",
        tasks=("click",),
        scenarios=("1", "9"),
        models=(judged("shared_bottom", 0.72, 0.70), judged("mmoe", 0.73, 0.7155)),
        champion="shared_bottom",
        differences=(contrast,),
    ).write(tmp_path / "frozen")
    return tmp_path


def test_the_page_says_what_was_found(found: Path) -> None:
    write_page(found, ["frozen"], found / "page.md", "python -m benchmarks.judging.backfill_report --modes frozen")
    page = (found / "page.md").read_text()
    assert "2 days of the log, replayed day by day in 2 tabs" in page
    assert "| shared_bottom | 0.7100 ± 0.0100 | −0.0200 |" in page
    assert "| 2022-05-03 | 1,000 | 25\u202f% | 0.7000 | 0.7155 |" in page
    assert "| all rows | +0.0123 ± 0.0040 \\* |" in page
    assert "| 9 | 40 | 25\u202f% | – | – |" in page
    with pytest.raises(DataError, match=r"no backfill\.json"):
        write_page(found, ["frozen", "rolling"], found / "page.md", "")


def test_every_step_is_a_command_that_there_is(tmp_path: Path) -> None:
    options = argparse.Namespace(
        raw=Path("raw"), models=list(MODELS), modes=["frozen", "incremental", "rolling"], days="A..B", out=tmp_path
    )
    todo = list(steps(options))
    assert len(todo) == 1 + len(MODELS) + 3
    group = typer.main.get_command(app)
    for step in todo:
        command = group.commands[step.words[0]]  # type: ignore[attr-defined]
        command.make_context(step.words[0], list(step.words[1:]), resilient_parsing=False)
    runs = [RunConfig.load(tmp_path / f"{name}.yaml") for name in MODELS]
    assert [run.model.name for run in runs] == list(MODELS)
