"""docs/results.md, written from finished runs: `python -m benchmarks.results --page-only`.

No figure or finding is typed.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import yaml

from benchmarks.results_figures import (
    BASELINES,
    STRENGTHS,
    Compared,
    Liked,
    Line,
    against,
    changes,
    compared,
    liked_of,
    line_of,
    strengths_of,
)
from benchmarks.results_grid import Grid, Protocol
from benchmarks.results_runs import Scores, TestRows, chance_of_liking, read_runs, rows_by_part
from swrec_prod.metrics import Interval

PAGE = Path("docs/results.md")
MARK = " \\*"  # of a significant difference
MANY = 6  # more scenarios are told by their mean
PACKAGES = ("torch", "torchrec", "numpy", "scipy")
HEAD = """# Results

Every figure and sentence below is written by `python -m benchmarks.results` from the predictions of finished runs; \
the same command
trains what is missing, and with `--page-only` it writes this page alone. What is trained, with which settings, is
[configs/results.yaml](../configs/results.yaml).

{machine}

- **AUC** is over all test rows, the mean of the seeds, ± half its 95 % interval. \
The interval covers other users (a user's rows are one
  cluster) and other seeds; how is in [statistics.py](../swrec_prod/statistics.py).
- **sd** is the standard deviation of AUC over seeds, **log loss** the mean over seeds in nats. \
A column with a scenario's name is AUC over
  its rows; with more than {many} scenarios there is their plain mean (**macro**) \
and the mean over users (**GAUC**) instead.
- **less X** is the AUC less that of X on the same rows, paired, ± half its 95 % interval. \
**\\*** marks what stays significant when 5 % of
  the marks in a column may be false (Benjamini & Hochberg).
- **published** and **public code** are the AUC in the papers' tables \
and that of the public benchmark's own code on such rows.
"""


def write_page(grid: Grid, page: Path = PAGE) -> None:
    """Write the page from the runs that are there; missing ones are named on it."""
    sections = [section(grid, name) for name in grid.protocols]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join([HEAD.format(machine=_machine(), many=MANY), *sections]))
    print(f"wrote {page}")


def section(grid: Grid, name: str) -> str:
    """One protocol: its data, settings, table and findings, each block of lines ended by an empty one."""
    protocol = grid.protocols[name]
    found = read_runs(grid, name)
    blocks = [f"## {protocol.title}", protocol.text]
    if found is None:
        blocks.append("No run is finished.")
        return _joined(blocks)
    rows, scores = found
    lines = sorted((line_of(rows, s) for s in scores), key=lambda line: -line.auc.value)
    beside = {b: less for b in BASELINES if (less := against(rows, scores, b))}
    blocks += [_data(name, protocol, rows), _settings(protocol), table(protocol, rows, lines, beside)]
    blocks += [_bullets([*_missing(protocol, lines), *findings(protocol, lines, beside)])]
    blocks += [
        _changes(changes(rows, scores)),
        _truth(name, protocol, rows, scores),
        _strengths(rows, scores),
        _notes(protocol),
    ]
    return _joined(blocks)


def table(
    protocol: Protocol, rows: TestRows, lines: Sequence[Line], beside: Mapping[str, Mapping[str, Compared]]
) -> str:
    """One line a variant, best AUC first."""
    few = len(rows.scenarios) <= MANY
    head = ["variant", "seeds", "AUC", "sd", "log loss", *(rows.scenarios if few else ("macro", "GAUC"))]
    head += [f"less {baseline}" for baseline in beside]
    told = {title: of for title, of in (("published", protocol.published), ("public code", protocol.public_code)) if of}
    cells = []
    for line in lines:
        row = [f"`{line.variant}`", _of_all(line.seeds, protocol.seeds), _interval(line.auc), _number(line.deviation)]
        row += [_number(line.logloss), *map(_number, line.scenarios if few else (line.macro, line.gauc))]
        row += [_difference(less.get(line.variant)) for less in beside.values()]
        cells.append([*row, *(_number(of.get(line.variant)) for of in told.values())])
    return _table([*head, *told], cells)


def findings(protocol: Protocol, lines: Sequence[Line], beside: Mapping[str, Mapping[str, Compared]]) -> Iterator[str]:
    """What the table says, as sentences."""
    best = lines[0]
    yield f"Highest AUC: `{best.variant}`, {_interval(best.auc)}."
    for baseline, less in beside.items():
        yield _verdict(f"Against `{baseline}`", less)
    for what, of in (("published AUC", protocol.published), ("AUC of the public code", protocol.public_code)):
        judged = [line for line in lines if line.variant in of]
        if judged:
            yield _reached(what, judged, of)


def _verdict(what: str, less: Mapping[str, Compared]) -> str:
    groups: dict[str, list[str]] = {
        "significantly higher": [],
        "significantly lower": [],
        "no significant difference": [],
    }
    for variant, (difference, significant) in sorted(less.items(), key=lambda item: -item[1].difference.value):
        which = (
            "no significant difference"
            if not significant
            else f"significantly {'higher' if difference.value > 0 else 'lower'}"
        )
        groups[which].append(f"`{variant}` ({_signed(difference.value)})")
    told = "; ".join(f"{which}: {', '.join(names) or 'none'}" for which, names in groups.items())
    return f"{what}, of {_several(len(less), 'comparison')}, {told}."


def _reached(what: str, lines: Sequence[Line], of: Mapping[str, float]) -> str:
    below = [line for line in lines if line.auc.value < of[line.variant]]
    told = f"At or above the {what}: {len(lines) - len(below)} of {len(lines)}."
    return told if not below else f"{told} Below it: {', '.join(_shortfall(line, of[line.variant]) for line in below)}."


def _shortfall(line: Line, wanted: float) -> str:
    inside = ", which its interval covers" if line.auc.high >= wanted else ""
    return f"`{line.variant}` by {wanted - line.auc.value:.4f} ({line.auc.value:.4f} against {wanted:.4f}{inside})"


def _missing(protocol: Protocol, lines: Sequence[Line]) -> list[str]:
    seeds = {line.variant: line.seeds for line in lines}
    short = {v: len(seeds.get(v, ())) for v in protocol.variants if len(seeds.get(v, ())) < protocol.seeds}
    told = ", ".join(f"`{variant}` ({count} of {_several(protocol.seeds, 'seed')})" for variant, count in short.items())
    return [f"Not all runs are finished: {told}."] if short else []


def _changes(found: Mapping[tuple[str, str], Compared]) -> str:
    cells = [[f"`{variant}`", f"`{parent}`", _difference(less)] for (variant, parent), less in found.items()]
    return (
        ""
        if not cells
        else f"What a change to a variant does:\n\n{_table(['variant', 'changes', 'AUC less that'], cells)}"
    )


def _truth(name: str, protocol: Protocol, rows: TestRows, scores: Sequence[Scores]) -> str:
    """A simulated protocol's scores against what users really want."""
    if not protocol.simulate:
        return ""
    chance_N = chance_of_liking(name, rows.row_N)
    liked = sorted(liked_of(rows, scores, chance_N), key=lambda found: -(found.score or found.probability).value)
    gain = compared({found.variant: found.gain for found in liked if found.gain})
    ahead = compared({found.variant: found.ahead for found in liked if found.ahead})
    head = [
        "variant",
        "probability",
        "ranking score",
        "y_m alone",
        "score less probability",
        f"score less {BASELINES[0]}",
    ]
    cells = [_truth_row(found, gain, ahead) for found in liked]
    what = (
        "AUC against the [true interest](simulator.md): "
        "a row counts as liked with the probability σ(interest) of a click without"
    )
    swept = [[f"`{s.variant}`", *map(_number, strengths_of(chance_N, s))] for s in scores if s.splits]
    sweep = f"\n\nThe same for ranking scores of other strengths c:\n\n{_table(_c_head(), swept)}" if swept else ""
    told = [
        _verdict(how, less)
        for how, less in (("Ranking score against probability", gain), (f"Against `{BASELINES[0]}`", ahead))
        if less
    ]
    return f"{what}\nthe scenario's direct effect.\n\n{_table(head, cells)}\n\n{_bullets(told)}{sweep}"


def _truth_row(found: Liked, gain: Mapping[str, Compared], ahead: Mapping[str, Compared]) -> list[str]:
    score = "" if found.score is None else _interval(found.score)
    row = [f"`{found.variant}`", _interval(found.probability), score, _number(found.interest)]
    return [*row, _difference(gain.get(found.variant)), _difference(ahead.get(found.variant))]


def _strengths(rows: TestRows, scores: Sequence[Scores]) -> str:
    """Clicks ranked by the causal split's score for several c."""
    cells = [[f"`{s.variant}`", *map(_number, strengths_of(rows.labels_N, s))] for s in scores if s.splits]
    what = (
        f"AUC of the ranking score against {rows.task}s over all scenarios, "
        "by the strength c with which the scenario is taken away"
    )
    return "" if not cells else f"{what}:\n\n{_table(_c_head(), cells)}"


def _notes(protocol: Protocol) -> str:
    return _bullets([f"`{name}`: {variant.note}" for name, variant in protocol.variants.items() if variant.note])


def _data(name: str, protocol: Protocol, rows: TestRows) -> str:
    parts = rows_by_part(name, protocol)
    others = "".join(
        f"{parts[part]:,} rows to {what}, "
        for part, what in (("train", "train"), ("valid", "validate"))
        if part in parts
    )
    users = len(set(rows.user_N.tolist()))
    judged = f"{len(rows.row_N):,} to test, by {users:,} users in {_several(len(rows.scenarios), 'scenario')}"
    return f"Rows: {others}{judged}; {rows.labels_N.mean():.1%} are {rows.task}s."


def _settings(protocol: Protocol) -> str:
    made = {"simulate": protocol.simulate} if protocol.simulate else {}
    flow = yaml.safe_dump(
        {**made, "data": protocol.data, "train": protocol.train}, default_flow_style=True, sort_keys=False, width=10_000
    )
    return f"Settings: `{flow.strip()}`, seeds 1 to {protocol.seeds}."


def _machine() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    cpu = f"a CPU ({platform.machine()}, {os.cpu_count()} cores), one thread a run"
    return (
        f"Written with Python {platform.python_version()}, {versions} on {cpu}; "
        "a run that is kept may have been trained with others."
    )


def _c_head() -> list[str]:
    return ["variant", *(f"c = {c:g}".replace("-", "−") for c in STRENGTHS)]


def _interval(found: Interval) -> str:
    return f"{found.value:.4f} ± {(found.high - found.low) / 2:.4f}"


def _difference(found: Compared | None) -> str:
    if found is None:
        return ""
    value, _, low, high, _ = found.difference
    return f"{_signed(value)} ± {(high - low) / 2:.4f}{MARK if found.significant else ''}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _signed(value: float, digits: int = 4) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def _several(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _of_all(seeds: Sequence[int], wanted: int) -> str:
    return str(len(seeds)) if len(seeds) == wanted else f"{len(seeds)} of {wanted}"


def _table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    lines = [[name.replace("|", "\\|") for name in head], ["---", *("---:" for _ in head[1:])], *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _joined(blocks: Sequence[str]) -> str:
    return "\n\n".join(block.strip() for block in blocks if block.strip()) + "\n"
