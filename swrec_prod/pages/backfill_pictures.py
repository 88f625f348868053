"""Pictures of a backfill: what each model reaches on every day, what challengers gain and lose, and calibration."""

from __future__ import annotations

from collections.abc import Mapping

from swrec_prod.drawing.by_day import DayFigure, Series, bands_note, by_day_figure, least_width
from swrec_prod.drawing.heat_map import Scale, heat_maps
from swrec_prod.drawing.style import Picture, absent
from swrec_prod.drawing.whiskers import Unit, Whisker, seesaw, whiskers_picture
from swrec_prod.evaluate.text import change, several
from swrec_prod.judge.record import BackfillRecord, Contrast, Figures, JudgedModel
from swrec_prod.pages.backfill_figures import by_day, cells_of, contrasts_of, days_of, difference_cells

FEATURES = 7  # with most unknown values, in the picture
FILLED = "Filled: significant"


def quality_by_day(record: BackfillRecord, task: str) -> Picture:
    """AUC over all rows of each day, one line a model."""
    title = f"AUC of {task} day by day"
    series = {m.name: [_with_interval(f, "auc") for f in by_day(record, m, task)] for m in record.models}
    if not _known(series):
        return absent(title, "Left out: no day has rows of both labels.")
    figure = by_day_figure(days_of(record), series, "AUC, all rows of the day", ".3f")
    how = {
        "frozen": "Each model keeps the weights it was trained to: what it loses over the days is what its age costs.",
        "incremental": "Each day is judged by weights that have seen the days before it, and then learns from it.",
        "rolling": f"For each day a model is trained anew, on the {record.window} days before it.",
    }[record.mode]
    return Picture(title, _first_to_last(series), how, figure, least_width(record.days))


def calibration_by_day(record: BackfillRecord, task: str) -> Picture:
    """Predicted over observed, one line a model."""
    title = f"Calibration of {task} day by day"
    series = {m.name: [_with_interval(f, "calibration") for f in by_day(record, m, task)] for m in record.models}
    if not _known(series):
        return absent(title, "Left out: no day has positive rows.")
    figure = by_day_figure(days_of(record), series, "predicted over observed", ".2f", level=1.0)
    far = max((abs(v.value - 1), name, v.value, day) for name, day, v in _each(record, series))
    finding = f"Furthest from 1 is {far[1]} on {far[3]}: {far[2]:.3f}."
    how = "1 is right; above it the model promises more than happens."
    return Picture(title, finding, how, figure, least_width(record.days))


def unknown_by_day(record: BackfillRecord, model: JudgedModel) -> Picture | None:
    """The share of unknown values of the features that have most; None where none has any."""
    shares = {name: 0.0 for day in model.days for name in day.unknown_values}
    for name in shares:
        shares[name] = max(day.unknown_values.get(name, 0.0) for day in model.days)
    most = sorted((name for name in shares if shares[name]), key=lambda name: -shares[name])[:FEATURES]
    if not most:
        return None
    judged = {day.day: day.unknown_values for day in model.days}
    series: dict[str, Series] = {
        name: [DayFigure(judged[day].get(name, 0.0)) if day in judged else None for day in record.days] for name in most
    }
    figure = by_day_figure(days_of(record), series, "share of values without an id", ".1%")
    worst = most[0]
    finding = f"Most unknown are values of {worst}: up to {shares[worst]:.1%} of a day's."
    how = f"Of {model.name}: values that its vocabularies do not hold." + (
        f" The {FEATURES} features with most." if len(shares) > FEATURES else ""
    )
    return Picture("Unknown values day by day", finding, how, figure, least_width(record.days))


def quality_maps(record: BackfillRecord, task: str) -> list[Picture]:
    """AUC of every scenario on every day, a model at a time."""
    layers = {model.name: cells_of(record, model, task, "auc") for model in record.models}
    title, scale = "AUC of every scenario on every day", Scale("AUC", ".3f")
    return heat_maps(title, record.scenarios, days_of(record), layers, scale, _chosen(len(layers), "model"), "")


def calibration_maps(record: BackfillRecord, task: str) -> list[Picture]:
    """Calibration of every scenario on every day, a model at a time."""
    layers = {model.name: cells_of(record, model, task, "calibration") for model in record.models}
    title, scale = "Calibration of every scenario on every day", Scale("predicted over observed", ".2f", middle=1.0)
    how = "Blue: more was predicted than happened; orange: less."
    return heat_maps(title, record.scenarios, days_of(record), layers, scale, _chosen(len(layers), "model"), how)


def difference_maps(record: BackfillRecord, task: str) -> list[Picture]:
    """The difference of every challenger to the champion in every scenario on every day."""
    layers = {
        name: difference_cells(record, contrasts_of(record, name, task, "scenario")) for name in challengers(record)
    }
    layers = {name: cells for name, cells in layers.items() if cells.rows_SD.any()}
    if not layers:
        return []
    title, scale = (
        f"AUC less that of {record.champion}, every scenario on every day",
        Scale("AUC difference", "+.3f", 0.0),
    )
    how = "Blue: the challenger is better; orange: worse. Single cells are noisy."
    return heat_maps(title, record.scenarios, days_of(record), layers, scale, _chosen(len(layers), "challenger"), how)


def overall_differences(record: BackfillRecord, task: str) -> Picture:
    """The difference of every challenger to the champion over all days, highest first."""
    found = [c for name in challengers(record) for c in contrasts_of(record, name, task, "overall")]
    whiskers = sorted((whisker_of(c, c.challenger) for c in found), key=lambda whisker: -whisker.value)
    title = f"Difference to {record.champion}"
    if not whiskers:
        return absent(title, "Left out: too few users of either label.")
    best = whiskers[0]
    finding = f"Highest is {best.name}: {change(best.value)}{'' if best.mark else ', which chance may explain'}."
    how = f"{FILLED}. Each is paired by row, so that rows hard for both cancel; whiskers are 95\u202f% intervals."
    return whiskers_picture(title, whiskers, Unit(f"AUC less that of {record.champion}"), finding, how)


def differences_by_day(record: BackfillRecord, task: str) -> Picture:
    """The same, day by day."""
    title = f"Difference to {record.champion} day by day"
    series = {
        c.challenger: _daily(record, c) for n in challengers(record) for c in contrasts_of(record, n, task, "overall")
    }
    if not _known(series):
        return absent(title, "Left out: too few users of either label on every day.")
    figure = by_day_figure(days_of(record), series, f"AUC less that of {record.champion}", "+.3f", level=0.0)
    above = [
        f"{name} is ahead on {sum(v.value > 0 for v in known)} of {several(len(known), 'day')}"
        for name, values in series.items()
        if (known := [v for v in values if v is not None])
    ]
    return Picture(title, f"{'; '.join(above)}.", bands_note(series), figure, least_width(record.days))


def seesaws(record: BackfillRecord, task: str) -> list[Picture]:
    """For each challenger, what every scenario gained or lost against the champion."""
    return [
        seesaw(
            f"What scenarios gain and lose with {name}",
            [whisker_of(c, str(c.scenario)) for c in contrasts_of(record, name, task, "scenario")],
            Unit(f"AUC less that of {record.champion}"),
            f"{FILLED} after control of false discoveries among the scenarios; whiskers are 95\u202f% intervals.",
        )
        for name in challengers(record)
    ]


def challengers(record: BackfillRecord) -> list[str]:
    """The models that are held to the champion."""
    return [model.name for model in record.models if record.champion not in (None, model.name)]


def whisker_of(contrast: Contrast, name: str) -> Whisker:
    """A difference as pictures draw it."""
    mark = "" if not contrast.significant else "gain" if contrast.value > 0 else "loss"
    note = f"adjusted p = {contrast.adjusted_p:.2g}, {several(contrast.rows, 'row')}"
    return Whisker(name, contrast.value, contrast.low, contrast.high, mark, note)  # type: ignore[arg-type]


def _daily(record: BackfillRecord, contrast: Contrast) -> Series:
    known = {day.day: DayFigure(day.value, day.low, day.high) for day in contrast.days}
    return [known.get(day) for day in record.days]


def _with_interval(figures: Figures | None, metric: str) -> DayFigure | None:
    value = figures.metrics.get(metric) if figures else None
    if figures is None or value is None:
        return None
    return DayFigure(value, *figures.intervals.get(metric, (None, None)))


def _known(series: Mapping[str, Series]) -> bool:
    return any(value is not None for values in series.values() for value in values)


def _each(record: BackfillRecord, series: Mapping[str, Series]) -> list[tuple[str, str, DayFigure]]:
    days = days_of(record)
    return [(n, day, v) for n, values in series.items() for day, v in zip(days, values, strict=True) if v is not None]


def _first_to_last(series: Mapping[str, Series]) -> str:
    """How far every model moved from its first day to its last."""
    moved = []
    for name, values in series.items():
        known = [v.value for v in values if v is not None]
        if len(known) > 1:
            moved.append(f"{name} {known[0]:.4f} to {known[-1]:.4f} ({change(known[-1] - known[0])})")
    return f"From the first day to the last: {'; '.join(moved)}." if moved else "There is one day only."


def _chosen(layers: int, noun: str) -> str:
    return f"The list above the picture chooses the {noun}." if layers > 1 else ""
