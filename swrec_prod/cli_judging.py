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
