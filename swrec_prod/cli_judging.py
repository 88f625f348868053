"""Commands that judge over days, models and experiments. `cli` adds them to its own, and turns their errors into exit
codes.

    @judging.command()                              swrec NAME
    GROUP = typer.Typer(help=..., no_args_is_help=True); judging.add_typer(GROUP, name="GROUP")
    @GROUP.command()                                swrec GROUP NAME

Stages are imported inside the commands, as there.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from swrec_prod.cli_serving import AsJson, print_json
from swrec_prod.errors import ConfigError, nearest

if TYPE_CHECKING:
    from swrec_prod.judge.record import BackfillRecord

judging = typer.Typer()

HOLD = 3  # exit code of a gate that a challenger does not pass

Champion = Annotated[str | None, typer.Option(help="Model that the others are held to; default: the first.")]
Challenger = Annotated[str | None, typer.Option(help="Model that the gate is about; default: the only other one.")]


@judging.command()
def backfill(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN.yaml|RUN_DIR|PACKAGE...", help="What to judge, each maybe as NAME=PATH; several side by side."
        ),
    ],
    days: Annotated[str, typer.Option(help="Days to judge, A..B; A.. up to the last one.")],
    out: Annotated[Path, typer.Option(help="Folder for the judged days; the same command goes on there.")],
    mode: Annotated[
        str,
        typer.Option(
            metavar="frozen|incremental|rolling",
            help="The weights as they are; trained on through the day before; or trained anew on a window of days.",
        ),
    ] = "frozen",
    window: Annotated[int | None, typer.Option(help="rolling: days before each one to train on.")] = None,
    data: Annotated[Path | None, typer.Option(help="The prepared folder: of packages, or where it was moved.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A key of the run files, once for each.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that share the days; frozen and rolling.")] = 1,
    share: Annotated[
        str, typer.Option(help="AT/OF: this process's share of the days, where several machines share OUT.")
    ] = "0/1",
    predictions: Annotated[bool, typer.Option("--predictions", help="Keep every day's predictions.")] = False,
    champion: Champion = None,
    challenger: Challenger = None,
    rule: Annotated[
        str | None, typer.Option("--gate", help="Rule file: end with 0 to promote the challenger, 3 to hold it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge models on past days, day by day and scenario by scenario; goes on where it was cut off.

    Example: `swrec backfill build/runs/mscan --days 2000-12-01..2000-12-14 --out build/backfill`
    """
    from swrec_prod.judge.backfill import Share
    from swrec_prod.judge.gate import GateRule
    from swrec_prod.judge.record import Mode
    from swrec_prod.judge.request import requested
    from swrec_prod.judge.run import Contest
    from swrec_prod.judge.run import backfill as run

    if mode not in get_args(Mode):
        raise ConfigError(f"--mode {mode}: {nearest(mode, get_args(Mode))}")
    request = requested(
        models, days, mode, data=data, window=window, overrides=overrides or (), predictions=predictions
    )  # type: ignore[arg-type]
    contest = Contest(champion, challenger, GateRule.load(rule) if rule else None)
    say = partial(typer.echo, err=True)
    record = run(request, out, share=Share.parse(share), jobs=jobs, contest=contest, say=say)
    if record is not None:
        _end(record, out, as_json)


@judging.command()
def gate(
    out: Annotated[Path, typer.Argument(help="Folder of a finished backfill of two models or more.")],
    rule: Annotated[str, typer.Option(help="Rule file; default: the shipped one, configs/gate.yaml.")] = "gate",
    champion: Champion = None,
    challenger: Challenger = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a challenger may take the champion's place. Exit code 0: promote, 3: hold, 2: bad input.

    Example: `swrec gate build/backfill --rule configs/gate.yaml`
    """
    from swrec_prod.judge.gate import GateRule
    from swrec_prod.judge.run import Contest
    from swrec_prod.judge.run import gate as decide

    _end(decide(out, Contest(champion, challenger, GateRule.load(rule))), out, as_json, gate_only=True)


def _end(record: BackfillRecord, out: Path, as_json: bool, *, gate_only: bool = False) -> None:
    """Say what was found; end with HOLD where the gate says so."""
    from swrec_prod.judge.terminal import print_backfill, print_verdict

    verdict = record.verdict
    if as_json:
        print_json(verdict.model_dump(mode="json") if gate_only and verdict else record.to_json())
    else:
        if not gate_only:
            print_backfill(record, out)
        if verdict is not None:
            print_verdict(verdict)
    if verdict is not None and verdict.verdict == "hold":
        raise typer.Exit(HOLD)


@judging.command()
def study(
    name: Annotated[str, typer.Argument(help="The study; `swrec study list` names all.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN.yaml] [KEY=VALUE,VALUE]...",
            help="A run file, or its name; left out, a log is simulated. Then keys of it, `rows.` or `simulate.`, "
            "and the values that are tried.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="DIR to write; what is finished in it is not trained again.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds of every variant, 1,2,3; default: the study's.")] = None,
    along: Annotated[
        str | None, typer.Option(help="Key whose values are compared, for each combination of the others.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=100, help="Use at most about so many rows of train, valid and test.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="20,000 rows, one epoch, one seed: a try.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be trained, and train nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Answer a question by training variants and comparing them on the same rows: study.json, study.md and pages in
    DIR.

    Example: `swrec study experts kuairand_shared_bottom model.num_experts=2,4,8 --seeds 1,2 --out build/experts`
    """
    from swrec_prod.studies.named import STUDIES

    if name == "list":
        return _list_studies({key: known.question for key, known in STUDIES.items()}, as_json)
    from swrec_prod.studies.plan import plan_study

    given = list(words or ())
    run = given.pop(0) if given and "=" not in given[0] else None
    planned = plan_study(name, run, given, seeds=_seeds(seeds), along=along, rows=rows, quick=quick)
    if plan:
        return print_json(planned.to_json()) if as_json else typer.echo(planned.to_text())
    if out is None:
        raise ConfigError("--out: give the folder of the study, or --plan")
    from swrec_prod.pages.compare_page import write_comparison
    from swrec_prod.studies.result import carry_out
    from swrec_prod.studies.text import study_json, study_markdown, write_study

    result = carry_out(planned, out, (lambda line: None) if as_json else typer.echo)
    write_study(result, out)
    for folder, comparison in zip(planned.folders.values(), result.comparisons.values(), strict=True):
        write_comparison(comparison, out / "compare" / folder)
    print_json(study_json(result)) if as_json else typer.echo(f"\n{study_markdown(result)}\nwrote {out}/study.md")


def _list_studies(questions: dict[str, str], as_json: bool) -> None:
    width = max(map(len, questions))
    lines = (f"{name:{width}}  {question}" for name, question in questions.items())
    print_json(questions) if as_json else typer.echo("\n".join(lines))


def _seeds(text: str | None) -> list[int]:
    """Seeds given as 1,2,3. Raises ConfigError for anything else."""
    try:
        seeds = [int(word) for word in text.split(",")] if text else []
    except ValueError:
        seeds = [-1]
    if len(set(seeds)) < len(seeds) or min(seeds, default=0) < 0:
        raise ConfigError(f"--seeds {text}: give different whole numbers, for example 1,2,3")
    return seeds
