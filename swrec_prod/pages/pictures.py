"""Pictures that any run has: learning curve, ranking and calibration by scenario, distribution of predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from swrec_prod.drawing.style import COLORS, FAINT, NARROW, Picture, absent, styled
from swrec_prod.errors import MetricError
from swrec_prod.evaluate.judged import MAX_BARS, MAX_CURVES, Judged
from swrec_prod.evaluate.text import count, several, share, short
from swrec_prod.metrics.probabilities import Bins, calibration_bins, sigmoid
from swrec_prod.metrics.ranks import Interval, auc_interval


def learning_curve(history: list[dict[str, Any]]) -> Picture:
    """Losses and validation AUC over the rows trained on."""
    title = "Learning curve"
    checks = [h for h in history if h.get("valid_auc") is not None and h.get("rows") is not None]
    if not checks:
        return absent(title, "Left out: the run has no history.jsonl, or no validation in it.")
    if len(checks) == 1:
        only = f"{checks[0]['valid_auc']:.4f} after {count(checks[0]['rows'])} rows"
        return absent(
            title,
            f"There was one validation: AUC {only}. One point makes no curve; train.evals_per_epoch asks for more.",
        )
    rows = [h["rows"] for h in checks]
    best = max(checks, key=lambda h: h["valid_auc"])
    figure = make_subplots(1, 2, subplot_titles=("Log loss", "Validation AUC"), horizontal_spacing=0.1)
    for key, name, color, dash in (
        ("train_loss", "training", FAINT, "dot"),
        ("valid_logloss", "validation", COLORS[0], "solid"),
    ):
        line = {"color": color, "dash": dash, "width": 2.5}
        hover = f"{name} %{{y:.4f}}<br>%{{x:,}} rows<extra></extra>"
        losses = [h.get(key) for h in checks]
        figure.add_scatter(
            x=rows, y=losses, name=name, line=line, mode="lines+markers", hovertemplate=hover, row=1, col=1
        )
    aucs = [h["valid_auc"] for h in checks]
    hover = "AUC %{y:.4f}<br>%{x:,} rows<extra></extra>"
    line = {"color": COLORS[0], "width": 2.5}
    figure.add_scatter(
        x=rows, y=aucs, line=line, mode="lines+markers", showlegend=False, hovertemplate=hover, row=1, col=2
    )
    marker = {"size": 13, "symbol": "circle-open", "color": COLORS[3], "line": {"width": 2.5}}
    figure.add_scatter(
        x=[best["rows"]],
        y=[best["valid_auc"]],
        name="best",
        mode="markers",
        marker=marker,
        hoverinfo="skip",
        row=1,
        col=2,
    )
    figure.update_xaxes(title_text="rows trained on", rangemode="tozero")
    figure = styled(figure, 340)
    figure.update_layout(legend_y=1.12)
    return Picture(
        title,
        _learning_caption(checks, best),
        "Each point is one validation, on rows that training never sees.",
        figure,
        data={"history": checks},
    )


def _learning_caption(checks: list[dict[str, Any]], best: dict[str, Any]) -> str:
    last = checks[-1]
    caption = f"Validation AUC was best after {count(best['rows'])} rows: {best['valid_auc']:.4f}."
    if last is best:
        return f"{caption} That was the last validation: more training may still help."
    return (
        f"{caption} It then fell by {best['valid_auc'] - last['valid_auc']:.4f} until the last validation, "
        "so training stopped late enough."
    )


def ranking_by_scenario(judged: Judged) -> Picture:
    """Traffic and AUC with DeLong's interval, one line a scenario."""
    names = judged.axis_names[:MAX_BARS]
    intervals = [_interval(judged, part) for part in judged.parts]
    pooled = _interval(judged, np.arange(len(judged.labels)))
    rows, rates = judged.rows_S[:MAX_BARS], judged.mean_S(judged.labels)[:MAX_BARS]
    figure = make_subplots(1, 2, shared_yaxes=True, column_widths=[0.36, 0.64], horizontal_spacing=0.03)
    text = [f"{count(n)} · {share(rate)}" for n, rate in zip(rows, rates, strict=True)]
    hover = "%{y}: %{text}<extra></extra>"
    bar = {"color": "#bcd3e3"}
    figure.add_bar(
        x=rows,
        y=names,
        orientation="h",
        marker=bar,
        text=text,
        textposition="outside",
        cliponaxis=False,
        hovertemplate=hover,
    )
    drawn = [(name, i) for name, i in zip(names, intervals, strict=False) if i is not None]
    figure.add_scatter(
        x=[i.value for _, i in drawn],
        y=[name for name, _ in drawn],
        mode="markers",
        marker={"size": 11, "color": COLORS[0]},
        error_x={
            "array": [i.high - i.value for _, i in drawn],
            "arrayminus": [i.value - i.low for _, i in drawn],
            "color": COLORS[0],
            "thickness": 1.8,
            "width": 5,
        },
        customdata=[[i.low, i.high] for _, i in drawn],
        hovertemplate="%{y}: AUC %{x:.4f}<br>95 % interval %{customdata[0]:.4f} to %{customdata[1]:.4f}<extra></extra>",
        row=1,
        col=2,
    )
    if pooled is not None:
        label = {"text": f"all rows {pooled.value:.4f}", "font": {"size": 12, "color": COLORS[3]}}
        figure.add_vline(x=pooled.value, line={"dash": "dash", "color": COLORS[3], "width": 1.5}, row=1, col=2)
        figure.add_annotation(
            x=pooled.value, y=1, yref="y2 domain", yanchor="bottom", showarrow=False, row=1, col=2, **label
        )
    figure.update_yaxes(type="category", range=[len(names) - 0.4, -0.6])
    figure.update_xaxes(title_text=f"rows · rate of {judged.task}", range=[0, float(rows.max()) * 1.75], row=1, col=1)
    figure.update_xaxes(title_text="AUC inside the scenario, 95 % interval (DeLong)", row=1, col=2)
    figure = styled(figure, 130 + 34 * len(names)).update_layout(showlegend=False, bargap=0.35)
    how = "0.5 is a coin toss. Wide whiskers mean few positives, not a bad model."
    return Picture(
        "How well each scenario is ranked",
        _ranking_caption(judged.names, intervals, pooled),
        how + judged.cut(MAX_BARS),
        figure,
        data={"auc_intervals": _intervals_json(judged.names, intervals, pooled)},
    )


def _intervals_json(names: list[str], intervals: list[Interval | None], pooled: Interval | None) -> dict[str, Any]:
    each = {name: i._asdict() if i else None for name, i in zip(names, intervals, strict=True)}
    return {"overall": pooled._asdict() if pooled else None, "scenarios": each}


def _ranking_caption(names: list[str], intervals: list[Interval | None], pooled: Interval | None) -> str:
    with_interval = [(interval, name) for name, interval in zip(names, intervals, strict=True) if interval is not None]
    without = len(names) - len(with_interval)
    ending = f" {several(without, 'scenario')} had too few rows of one class for an AUC." if without else ""
    if len(with_interval) < 2 or pooled is None:
        return f"Fewer than two scenarios can be compared.{ending}"
    best, worst = max(with_interval), min(with_interval)
    overlap = worst[0].high >= best[0].low
    apart = (
        "overlap, so the gap may be chance" if overlap else "do not overlap, so chance alone hardly explains the gap"
    )
    gap = pooled.value - float(np.mean([i.value for i, _ in with_interval]))
    against = f"{abs(gap):.3f} {'more' if gap > 0 else 'less'} than" if abs(gap) >= 0.0005 else "the same as"
    return (
        f"Ranking is best in {best[1]} (AUC {best[0].value:.3f}) "
        f"and weakest in {worst[1]} ({worst[0].value:.3f}, 95\u202f% interval "
        f"{worst[0].low:.3f} to {worst[0].high:.3f}); the two intervals {apart}. "
        f"All rows pooled give {pooled.value:.3f}, {against} "
        f"the mean of the scenarios; pooled, pairs of different scenarios count too.{ending}"
    )


def calibration_curves(judged: Judged) -> Picture:
    """Observed rate over predicted probability, equal-mass bins, one curve a scenario."""
    figure = go.Figure()
    curves = [
        calibration_bins(judged.labels[p], judged.logits[p], 12, judged.weights_in(p))
        for p in judged.parts[:MAX_CURVES]
    ]
    points = np.concatenate([np.concatenate((c.predicted, c.observed)) for c in curves])
    low, high = points[points > 0].min(initial=1.0) / 1.2, min(1.0, points.max() * 1.2)
    logarithmic = high / low > 20
    ends = [low if logarithmic else 0, high]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": FAINT, "dash": "dash"}, name="promise kept", hoverinfo="skip"
    )
    for name, color, curve in zip(judged.names, COLORS, curves, strict=False):
        seen = curve.observed > 0 if logarithmic else np.ones(len(curve.rows), bool)
        figure.add_scatter(
            x=curve.predicted[seen],
            y=curve.observed[seen],
            name=short(name),
            mode="lines+markers",
            line={"color": color, "width": 2.2},
            customdata=curve.rows[seen],
            hovertemplate="predicted %{x:.2%}, observed %{y:.2%}<br>%{customdata:,} rows<extra>"
            + short(name)
            + "</extra>",
        )
    kind = {"type": "log", "dtick": "D2"} if logarithmic else {"type": "linear"}
    figure.update_xaxes(title_text="predicted probability", tickformat="~%", **kind)
    figure.update_yaxes(title_text=f"observed rate of {judged.task}", tickformat="~%", **kind)
    how = (
        "Each point is one twelfth of a scenario's rows. "
        "Above the dashed line the model promises too little, below it too much."
    )
    return Picture(
        "Can the probabilities be trusted?",
        _calibration_caption(judged),
        how + judged.cut(MAX_CURVES),
        styled(figure, 460),
        NARROW,
        {"calibration_curves": dict(zip(judged.names, map(_curve_json, curves), strict=False))},
    )


def _curve_json(curve: Bins) -> dict[str, list[float]]:
    return {"predicted": curve.predicted.tolist(), "observed": curve.observed.tolist(), "rows": curve.rows.tolist()}


def _calibration_caption(judged: Judged) -> str:
    predicted, observed = judged.mean_S(sigmoid(judged.logits)), judged.mean_S(judged.labels)
    overall = (
        f"Over all rows the model predicts {share(sigmoid(judged.logits).mean())} "
        f"and {share(judged.labels.mean())} happened."
    )
    ratio = np.divide(predicted, observed, out=np.full(len(predicted), np.nan), where=observed > 0)
    if np.isnan(ratio).all():
        return overall
    far = int(np.nanargmax(np.abs(np.log(ratio))))
    where = f"{judged.names[far]}: {share(predicted[far])} predicted, {share(observed[far])} observed"
    return f"{overall} Furthest off is {where} ({ratio[far]:.2f} times)."


def prediction_hills(judged: Judged) -> Picture:
    """The distribution of predictions for positive and negative rows, one ridge a scenario."""
    low, high = np.quantile(judged.logits, [0.0005, 0.9995]) + np.array([-0.4, 0.4])
    grid = np.linspace(low, high, 121)
    figure = go.Figure()
    names = judged.names[:MAX_CURVES]
    for i, part in enumerate(judged.parts[:MAX_CURVES]):
        for label, name, color, fill in (
            (0, "no", FAINT, "rgba(135,148,161,.25)"),
            (1, "yes", COLORS[3], "rgba(213,94,0,.25)"),
        ):
            hill = _density(judged.logits[part][judged.labels[part] == label], grid)
            base = np.full(len(grid), float(len(names) - 1 - i))
            figure.add_scatter(x=grid, y=base, mode="lines", line={"width": 0}, showlegend=False, hoverinfo="skip")
            figure.add_scatter(
                x=grid,
                y=base + 0.85 * hill,
                mode="lines",
                fill="tonexty",
                fillcolor=fill,
                line={"color": color, "width": 1.6},
                name=f"{judged.task}: {name}",
                legendgroup=name,
                showlegend=i == 0,
                hoverinfo="skip",
            )
    ticks = np.array([t for t in _PROBABILITIES if low <= np.log(t / (1 - t)) <= high])
    figure.update_xaxes(
        title_text="predicted probability (logit scale)",
        tickvals=np.log(ticks / (1 - ticks)),
        ticktext=[f"{100 * t:g}\u202f%" for t in ticks],
    )
    figure.update_yaxes(
        tickvals=list(range(len(names)))[::-1], ticktext=[short(n) for n in names], showgrid=False, zeroline=False
    )
    how = (
        "One ridge a scenario; each hill is scaled to the same height. "
        "The less two hills overlap, the better the ranking."
    )
    return Picture(
        "Where the predictions lie",
        _hills_caption(judged),
        how + judged.cut(MAX_CURVES),
        styled(figure, 150 + 74 * len(names)),
        NARROW,
    )


_PROBABILITIES = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99, 0.999)


def _density(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """A smoothed histogram on the grid, scaled to a height of 1."""
    step = grid[1] - grid[0]
    heights = np.histogram(values, np.append(grid - step / 2, grid[-1] + step / 2))[0].astype(np.float64)
    kernel = np.exp(-0.5 * (np.arange(-9, 10) / 3.0) ** 2)
    smooth = np.convolve(heights, kernel, mode="same")
    return smooth / max(smooth.max(), 1e-12)


def _hills_caption(judged: Judged) -> str:
    gaps = []
    for name, part in zip(judged.names[:MAX_CURVES], judged.parts[:MAX_CURVES], strict=True):
        yes = judged.labels[part] == 1
        if 0 < yes.sum() < len(part):
            middle = [float(np.median(judged.logits[part][kind])) for kind in (yes, ~yes)]
            gaps.append((middle[0] - middle[1], name, *(share(float(sigmoid(np.array(m)))) for m in middle)))
    if not gaps:
        return "No scenario has rows of both kinds."
    (_, near, *near_at), (_, far, *far_at) = min(gaps), max(gaps)
    caption = f"The hills are furthest apart in {far}: half of its positive rows are predicted above {far_at[0]},"
    caption += f" half of the others above {far_at[1]}."
    return caption if near == far else f"{caption} They are closest in {near} ({near_at[0]} and {near_at[1]})."


def _interval(judged: Judged, part: np.ndarray) -> Interval | None:
    """AUC of some rows with its interval, of width 0 where only the value exists, or None."""
    labels, logits = judged.labels[part], judged.logits[part]
    try:
        return auc_interval(labels, logits, weights=judged.weights_in(part))
    except MetricError:
        return None
