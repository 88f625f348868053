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
from swrec_prod.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from swrec_prod.judge.record import BackfillRecord

judging = typer.Typer()
abtest = typer.Typer(help="Analyse an experiment, or plan one.", no_args_is_help=True)
judging.add_typer(abtest, name="abtest")


@abtest.command("analyze")
def analyze_experiment(
    exposures: Annotated[Path, typer.Option(help="Who was shown which variant: Parquet or CSV, a file or a folder.")],
    columns: Annotated[
        str, typer.Option(help="Columns file, or its name (configs/abtest/*.yaml): what columns mean, what is judged.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for experiment.json, experiment.md and experiment.html.")],
    outcomes: Annotated[
        Path | None, typer.Option(help="What came of it: likewise; left out, exposures have the outcomes.")
    ] = None,
    despite_mismatch: Annotated[
        bool, typer.Option("--despite-mismatch", help="Show lifts although units of a variant are missing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Join exposures with outcomes, check both, and say what each variant gained or lost, overall and per scenario.

    Refused where variants did not get the traffic that was planned; experiment.json then says what was counted.

    Example: `swrec abtest analyze --exposures impressions.parquet --columns open_bandit --out build/open_bandit`
    """
    from swrec_prod.abtest.analyze import analyze
    from swrec_prod.abtest.columns import load_columns
    from swrec_prod.abtest_text.analysis import print_experiment, write_experiment
    from swrec_prod.pages.experiment_page import write_experiment_page

    record = analyze(
        exposures, outcomes, load_columns(columns), despite_mismatch=despite_mismatch, say=partial(typer.echo, err=True)
    )
    write_experiment(record, out)
    write_experiment_page(record, out)
    if record.stop and not despite_mismatch:
        raise DataError(f"{record.stop}; find out which units are missing; --despite-mismatch shows lifts all the same")
    print_json(record.to_json()) if as_json else print_experiment(record)


@abtest.command("plan")
def plan_experiment(
    exposures: Annotated[Path, typer.Option(help="Past traffic: Parquet or CSV, a file or a folder.")],
    columns: Annotated[
        str, typer.Option(help="Columns file, or its name, as for analyze; its variants need not be there.")
    ],
    outcomes: Annotated[
        Path | None, typer.Option(help="What came of it: likewise; left out, exposures have the outcomes.")
    ] = None,
    effect: Annotated[
        float | None, typer.Option(help="The relative change to be found, 0.02 is 2 %; of guardrails their margin.")
    ] = None,
    power: Annotated[float, typer.Option(help="The chance to find it.")] = 0.8,
    traffic: Annotated[float, typer.Option(help="Share of the units that take part.")] = 1.0,
    days: Annotated[int, typer.Option(help="Days to reckon with, beyond those of the log.")] = 28,
    out: Annotated[Path | None, typer.Option(help="Folder for plan.json and plan.md.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say how long an experiment must run: the smallest effect that is found after each day, and the power to find one.

    Example: `swrec abtest plan --exposures impressions.parquet --columns open_bandit --effect 0.2`
    """
    from swrec_prod.abtest.columns import load_columns
    from swrec_prod.abtest.plan import PlanRequest, plan
    from swrec_prod.abtest_text.plan import print_plan, write_plan
    from swrec_prod.strict import parse

    asked = {"effect": effect, "power": power, "traffic": traffic, "days": days}
    request = parse(PlanRequest, asked, "swrec abtest plan")
    planned = plan(exposures, outcomes, load_columns(columns), request, partial(typer.echo, err=True))
    if out:
        write_plan(planned, out)
    print_json(planned.to_json()) if as_json else print_plan(planned)


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

    how = next((known for known in get_args(Mode) if known == mode), None)
    if how is None:
        raise ConfigError(f"--mode {mode}: {nearest(mode, get_args(Mode))}")
    request = requested(models, days, how, data=data, window=window, overrides=overrides or (), predictions=predictions)
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
    from swrec_prod.pages.backfill_page import write_backfill_page

    write_backfill_page(record, out)
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


@judging.command("off-policy")
def off_policy(
    log: Annotated[Path, typer.Argument(help="Parquet or CSV: a file or a folder, one row an action that was logged.")],
    reward: Annotated[str, typer.Option(help="Column: what came of the action, a click for example.")],
    propensity: Annotated[str, typer.Option(help="Column: how likely the logging policy was to take the action.")],
    target: Annotated[str, typer.Option(help="Column: how likely the policy that is judged would have been.")],
    by: Annotated[str | None, typer.Option(help="Column whose values are estimated apart too.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Column of users or sessions; default: every row apart.")] = None,
    predicted: Annotated[str | None, typer.Option(help="Column: a model's reward of the logged action.")] = None,
    expected: Annotated[str | None, typer.Option(help="Column: the model's mean reward of the target.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="COLUMN=VALUE: rows to use; may be repeated.")] = None,
    clip: Annotated[float | None, typer.Option(help="Cut weights there, in one more estimate.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for off_policy.json and off_policy.md.")] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate what another policy would have earned, from a log whose probabilities are known.

    Example: `swrec off-policy log.parquet --reward click --propensity propensity --target target --by scenario`
    """
    from swrec_prod.debiasing.off_policy_log import LogColumns, judge_log, read_log
    from swrec_prod.debiasing.off_policy_text import print_off_policy, write_off_policy

    columns = LogColumns(reward, propensity, target, cluster, predicted, expected, by)
    table = read_log(log, [name for name in columns if name], where or ())
    judged = judge_log(table, columns, clip)
    if out:
        write_off_policy(judged, out)
    print_json(judged.to_json()) if as_json else print_off_policy(judged)


@judging.command()
def debias(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_DIR...",
            help="Runs, or Parquet files with interest_logit and scenario_logit; NAME= before either.",
        ),
    ],
    c: Annotated[
        list[str] | None, typer.Option("--c", help="Values of c, as in --c -2,0,2; 0 and the run's own are added.")
    ] = None,
    k: Annotated[int, typer.Option(min=1, help="Places of a page.")] = 10,
    page_by: Annotated[
        str, typer.Option(help="Column whose rows make one page: user, request, or a kept one.")
    ] = "user",
    random: Annotated[
        str | None, typer.Option(help="Kept column that is 1 where chance chose the row: judged apart too.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Folder of `swrec simulate`: how well true interest is ordered.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for debias.json, debias.md and debias.html.")] = None,
    as_json: AsJson = False,
) -> None:
    """Replay rows at other strengths c of debiasing, without inference: what is ordered better, and who is shown.

    Several runs that were trained with different alpha are compared by it.

    Example: `swrec debias build/runs/mscan --c -2,-1,0,1,2 --k 5 --out build/debias`
    """
    from swrec_prod.compare.comparison import STRENGTHS
    from swrec_prod.debiasing.causal_rows import numbers_of
    from swrec_prod.debiasing.curves import Asked, curves
    from swrec_prod.debiasing.curves_text import debias_json, print_debias, write_debias

    grid = numbers_of(c) if c else STRENGTHS
    found = curves(runs, Asked(grid, k, page_by, random, truth))
    if out:
        from swrec_prod.pages.debias_page import write_debias_page

        write_debias(found, out)
        write_debias_page(found, out)
    print_json(debias_json(found)) if as_json else print_debias(found)


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
