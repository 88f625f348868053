"""What a backfill found over all of its days: backfill.json, from the folders of the judged days alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from swrec_prod.data.catalog import Catalog
from swrec_prod.errors import ConfigError, nearest
from swrec_prod.judge.contrasts import contrasts_of
from swrec_prod.judge.day import day_folder, read_day
from swrec_prod.judge.models import rows_to_judge
from swrec_prod.judge.pooled import pooled
from swrec_prod.judge.record import BackfillRecord, Figures, JudgedModel
from swrec_prod.judge.request import ModelSource, Request
from swrec_prod.judge.unknown_shares import unknown_of_days


def summarised(request: Request, out: Path, champion: str | None = None) -> BackfillRecord:
    """The record of a backfill whose days are all judged. champion: whom the others are held to; default: the first.

    Raises ConfigError for a champion that is no model, DataError where models were judged on different rows.
    """
    names = [source.name for source in request.models]
    if champion is not None and champion not in names:
        raise ConfigError(f"--champion {champion}: no such model; {nearest(champion, names)}")
    models = tuple(_model(source, request, out) for source in request.models)
    first = request.models[0]
    held = (champion or names[0]) if len(names) > 1 else None
    differences = [
        contrast
        for name in names
        if held is not None and name != held
        for contrast in contrasts_of(out, request.days, name, held)
    ]
    return BackfillRecord(
        mode=request.mode,
        days=request.days,
        window=request.window,
        data=first.data,
        data_fingerprint=first.data_fingerprint,
        tasks=tuple(dict.fromkeys(figures.task for figures in models[0].pooled)),
        scenarios=_busiest_first(models[0].pooled),
        models=models,
        champion=held,
        differences=tuple(differences),
        skipped=request.skipped,
    )


def _model(source: ModelSource, request: Request, out: Path) -> JudgedModel:
    folders = [day_folder(out, source.name, day) for day in request.days]
    days = tuple(read_day(folder) for folder in folders)
    unknown = unknown_of_days(Catalog.open(source.data), rows_to_judge(source, request), request.days)
    figures = pooled(folders, unknown)
    return JudgedModel(name=source.name, kind=source.kind, path=source.path, days=days, pooled=figures)


def _busiest_first(pooled: Sequence[Figures]) -> tuple[str, ...]:
    of_task = [figures for figures in pooled if figures.task == pooled[0].task and figures.scenario is not None]
    return tuple(str(figures.scenario) for figures in sorted(of_task, key=lambda figures: -figures.rows))
