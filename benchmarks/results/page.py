"""docs/results.md, written from finished runs: `python -m benchmarks.results --page-only`.

No figure or finding is typed.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import yaml

from benchmarks.results.figures import BASELINES, Liked, changes, liked_of
from benchmarks.results.grid import Grid, Protocol
from benchmarks.results.runs import chance_of_liking, read_runs, rows_by_part
from swrec_prod.compare.comparison import Contrast, Figures, JudgedVariants, contrasts, strengths_of
from swrec_prod.compare.runs import Scores, TestRows
from swrec_prod.compare.text import STRENGTH_NAMES, difference_text, verdict
from swrec_prod.evaluate.text import interval, markdown_table, several

PAGE = Path("docs/results.md")
MANY = 6  # of more scenarios the page has the mean alone
PACKAGES = ("torch", "torchrec", "numpy", "scipy")
HEAD = """# Results

Every figure and sentence below is written by `python -m benchmarks.results` from the predictions of finished runs; \
the same command
trains what is missing, and with `--page-only` it writes this page alone. What is trained, with which settings, is
[configs/results.yaml](../configs/results.yaml).

{machine}

- **AUC** is over all test rows, the mean of the seeds, ± half its 95 % interval. \
The interval covers other users (a user's rows are one
  cluster) and other seeds; how is in [statistics/paired.py](../swrec_prod/statistics/paired.py).
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
    finished = read_runs(grid, name)
    blocks = [f"## {protocol.title}", protocol.text]
    if finished is None:
        blocks.append("No run is finished.")
        return _joined(blocks)
    rows, scores = finished
    judged = JudgedVariants.of(rows, scores)
    lines = sorted((judged.figures(s.variant) for s in scores), key=lambda line: -line.auc.value)
    beside = {b: less for b in BASELINES if (less := judged.against(b))}
    blocks += [_data(name, protocol, rows), _settings(protocol), table(protocol, rows, lines, beside)]
    blocks += [_bullets([*_missing(protocol, lines), *findings(protocol, lines, beside)])]
    blocks += [
        _changes(changes(judged)),
        _truth(name, protocol, rows, scores),
        _strengths(rows, scores),
        _notes(protocol),
    ]
    return _joined(blocks)


def table(
    protocol: Protocol, rows: TestRows, lines: Sequence[Figures], beside: Mapping[str, Mapping[str, Contrast]]
) -> str:
    """One line a variant, best AUC first."""
    few = len(rows.scenarios) <= MANY
    head = ["variant", "seeds", "AUC", "sd", "log loss", *(rows.scenarios if few else ("macro", "GAUC"))]
    head += [f"less {baseline}" for baseline in beside]
    others = (("published", protocol.published), ("public code", protocol.public_code))
    reference = {title: of for title, of in others if of}
    cells = []
    for line in lines:
        row = [f"`{line.variant}`", _of_all(line.seeds, protocol.seeds), interval(line.auc), _number(line.deviation)]
        row += [_number(line.logloss), *map(_number, line.scenarios if few else (line.macro, line.gauc))]
        row += [difference_text(less.get(line.variant)) for less in beside.values()]
        cells.append([*row, *(_number(of.get(line.variant)) for of in reference.values())])
    return markdown_table([*head, *reference], cells)


def findings(
    protocol: Protocol, lines: Sequence[Figures], beside: Mapping[str, Mapping[str, Contrast]]
) -> Iterator[str]:
    """What the table says, as sentences."""
    best = lines[0]
    yield f"Highest AUC: `{best.variant}`, {interval(best.auc)}."
    for baseline, less in beside.items():
        yield _verdict(f"Against `{baseline}`", less)
    for what, of in (("published AUC", protocol.published), ("AUC of the public code", protocol.public_code)):
        with_reference = [line for line in lines if line.variant in of]
        if with_reference:
            yield _reached(what, with_reference, of)


def _verdict(what: str, less: Mapping[str, Contrast]) -> str:
    return f"{what}, {verdict({f'`{variant}`': of for variant, of in less.items()})}"


def _reached(what: str, lines: Sequence[Figures], of: Mapping[str, float]) -> str:
    below = [line for line in lines if line.auc.value < of[line.variant]]
    reached = f"At or above the {what}: {len(lines) - len(below)} of {len(lines)}."
    shortfalls = ", ".join(_shortfall(line, of[line.variant]) for line in below)
    return f"{reached} Below it: {shortfalls}." if below else reached


def _shortfall(line: Figures, wanted: float) -> str:
    inside = ", which its interval covers" if line.auc.high >= wanted else ""
    return f"`{line.variant}` by {wanted - line.auc.value:.4f} ({line.auc.value:.4f} against {wanted:.4f}{inside})"


def _missing(protocol: Protocol, lines: Sequence[Figures]) -> list[str]:
    seeds = {line.variant: line.seeds for line in lines}
    short = {v: len(seeds.get(v, ())) for v in protocol.variants if len(seeds.get(v, ())) < protocol.seeds}
    seeds_of = ", ".join(
        f"`{variant}` ({count} of {several(protocol.seeds, 'seed')})" for variant, count in short.items()
    )
    return [f"Not all runs are finished: {seeds_of}."] if short else []


def _changes(differences: Mapping[tuple[str, str], Contrast]) -> str:
    cells = [[f"`{variant}`", f"`{parent}`", difference_text(less)] for (variant, parent), less in differences.items()]
    return (
        ""
        if not cells
        else f"What a change to a variant does:\n\n{markdown_table(['variant', 'changes', 'AUC less that'], cells)}"
    )


def _truth(name: str, protocol: Protocol, rows: TestRows, scores: Sequence[Scores]) -> str:
    """A simulated protocol's scores against what users really want."""
    if not protocol.simulate:
        return ""
    chance_N = chance_of_liking(name, rows.row_N)
    liked = sorted(liked_of(rows, scores, chance_N), key=lambda line: -(line.score or line.probability).value)
    gain = contrasts({line.variant: line.gain for line in liked if line.gain})
    ahead = contrasts({line.variant: line.ahead for line in liked if line.ahead})
    head = [
        "variant",
        "probability",
        "ranking score",
        "y_m alone",
        "score less probability",
        f"score less {BASELINES[0]}",
    ]
    cells = [_truth_row(line, gain, ahead) for line in liked]
    what = (
        "AUC against the [true interest](simulator.md): "
        "a row counts as liked with the probability σ(interest) of a click without"
    )
    swept = _strength_table(chance_N, scores)
    sweep = f"\n\nThe same for ranking scores of other strengths c:\n\n{swept}" if swept else ""
    verdicts = [
        _verdict(how, less)
        for how, less in (("Ranking score against probability", gain), (f"Against `{BASELINES[0]}`", ahead))
        if less
    ]
    return f"{what}\nthe scenario's direct effect.\n\n{markdown_table(head, cells)}\n\n{_bullets(verdicts)}{sweep}"


def _truth_row(line: Liked, gain: Mapping[str, Contrast], ahead: Mapping[str, Contrast]) -> list[str]:
    score = "" if line.score is None else interval(line.score)
    row = [f"`{line.variant}`", interval(line.probability), score, _number(line.interest)]
    return [*row, difference_text(gain.get(line.variant)), difference_text(ahead.get(line.variant))]


def _strengths(rows: TestRows, scores: Sequence[Scores]) -> str:
    """Clicks ranked by the causal split's score for several c."""
    swept = _strength_table(rows.labels_N, scores)
    what = (
        f"AUC of the ranking score against {rows.task}s over all scenarios, "
        "by the strength c with which the scenario is taken away"
    )
    return f"{what}:\n\n{swept}" if swept else ""


def _strength_table(labels_N: np.ndarray, scores: Sequence[Scores]) -> str:
    """One line a variant with a causal split; "" where there is none. labels_N: or probabilities."""
    cells = [[f"`{s.variant}`", *map(_number, strengths_of(labels_N, s))] for s in scores if s.splits]
    return markdown_table(["variant", *STRENGTH_NAMES], cells) if cells else ""


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
    judged = f"{len(rows.row_N):,} to test, by {users:,} users in {several(len(rows.scenarios), 'scenario')}"
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


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _of_all(seeds: Sequence[int], wanted: int) -> str:
    return str(len(seeds)) if len(seeds) == wanted else f"{len(seeds)} of {wanted}"


def _bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _joined(blocks: Sequence[str]) -> str:
    return "\n\n".join(block.strip() for block in blocks if block.strip()) + "\n"
