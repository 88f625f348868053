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
from typing import Annotated, get_args

import typer

from swrec_prod.cli_serving import AsJson, print_json
from swrec_prod.errors import ConfigError, nearest

judging = typer.Typer()


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
    champion: Annotated[str | None, typer.Option(help="Model that the others are held to; default: the first.")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge models on past days, day by day and scenario by scenario; goes on where it was cut off.

    Example: `swrec backfill build/runs/mscan --days 2000-12-01..2000-12-14 --out build/backfill`
    """
    from swrec_prod.judge.backfill import Share
    from swrec_prod.judge.record import Mode
    from swrec_prod.judge.request import requested
    from swrec_prod.judge.run import backfill as run
    from swrec_prod.judge.terminal import print_backfill

    if mode not in get_args(Mode):
        raise ConfigError(f"--mode {mode}: {nearest(mode, get_args(Mode))}")
    request = requested(
        models, days, mode, data=data, window=window, overrides=overrides or (), predictions=predictions
    )  # type: ignore[arg-type]
    say = partial(typer.echo, err=True)
    record = run(request, out, share=Share.parse(share), jobs=jobs, champion=champion, say=say)
    if record is not None:
        print_json(record.to_json()) if as_json else print_backfill(record, out)
