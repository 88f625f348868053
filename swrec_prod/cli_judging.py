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
from typing import Annotated

import typer

from swrec_prod.cli_serving import AsJson, print_json
from swrec_prod.errors import DataError

judging = typer.Typer()

abtest = typer.Typer(help="Analyse an experiment, or plan one.", no_args_is_help=True)
judging.add_typer(abtest, name="abtest")


@abtest.command("analyze")
def analyze_experiment(
    exposures: Annotated[Path, typer.Option(help="Who was shown which variant: Parquet or CSV, a file or a folder.")],
    columns: Annotated[
        str, typer.Option(help="Columns file, or its name (configs/abtest/*.yaml): what columns mean, what is judged.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for experiment.json and experiment.md.")],
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
    from swrec_prod.judge.experiment_text import print_experiment, write_experiment

    record = analyze(
        exposures, outcomes, load_columns(columns), despite_mismatch=despite_mismatch, say=partial(typer.echo, err=True)
    )
    write_experiment(record, out)
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
    from swrec_prod.judge.plan_text import print_plan, write_plan
    from swrec_prod.strict import parse

    asked = {"effect": effect, "power": power, "traffic": traffic, "days": days}
    request = parse(PlanRequest, asked, "swrec abtest plan")
    planned = plan(exposures, outcomes, load_columns(columns), request, partial(typer.echo, err=True))
    if out:
        write_plan(planned, out)
    print_json(planned.to_json()) if as_json else print_plan(planned)
