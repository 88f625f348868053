"""Commands about online experiments, and what they logged. `cli` adds them, and turns their errors into exit codes.

Stages are imported inside the commands, as there.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from swrec_prod.cli_serving import AsJson, print_json

experiments = typer.Typer(help="Check a file of experiments, or say who gets what.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="An experiments file.")]


@experiments.command()
def check(
    file: File,
    previous: Annotated[
        Path | None, typer.Option(help="The file that runs now: units of a running experiment must keep their variant.")
    ] = None,
) -> None:
    """Say whether a file is right, and may follow the one that runs.

    Example: `swrec experiments check experiments.yaml --previous running.yaml`
    """
    from swrec_prod.experiments.assign import Experiments

    given = Experiments.load(file, Experiments.load(previous) if previous is not None else None)
    running = given.file.experiments
    typer.echo(f"{file}: {len(running)} experiments in {len(given.file.layers)} layers, version {given.version.hex()}")


@experiments.command()
def assign(
    file: File,
    unit: Annotated[list[str], typer.Option(help="Whom: as requests send it; once for each.")],
    scenario: Annotated[str, typer.Option(help="The place that asks.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say which variants units get, without a server.

    Example: `swrec experiments assign experiments.yaml --unit 42 --unit 43 --scenario home`
    """
    from swrec_prod.experiments.assign import Experiments

    given = Experiments.load(file)
    found = {one: given.assign(one, scenario).variants for one in unit}
    if as_json:
        return print_json({one: [got._asdict() for got in variants] for one, variants in found.items()})
    for one, variants in found.items():
        told = ", ".join(f"{got.experiment}={got.variant} (bucket {got.bucket})" for got in variants)
        typer.echo(f"{one}: {told or 'in no experiment'}")


def replay(
    log: Annotated[Path, typer.Argument(help="An exposure log: the DIR of swrec serve --exposures DIR.")],
    package: Annotated[Path, typer.Option(help="REPO/NAME/VERSION: the package that answers the logged requests.")],
    model: Annotated[str, typer.Option(help="Only requests that this model had answered; default: all.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="About so many answers; 0: all.")] = 0,
    own_c: Annotated[
        bool, typer.Option("--own-c", help="With the package's own c; default: with the c of the log.")
    ] = False,
    tolerance: Annotated[
        float | None, typer.Option(help="Largest difference of a probability that is accepted; default: any.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Answer logged requests by another package, and say how far it is from what was answered.

    Example: `swrec replay build/exposures --package build/models/mscan/5 --limit 10000`
    """
    from swrec_prod.errors import DataError
    from swrec_prod.replay.differences import replay as run
    from swrec_prod.replay.text import print_replayed

    found = run(log, package, model, limit, own_c, say=partial(typer.echo, err=True))
    print_json(found.to_json()) if as_json else print_replayed(found)
    if tolerance is not None and found.largest > tolerance:
        raise DataError(f"{found.package} differs from {log} by {found.largest:.3g}, allowed are {tolerance:g}")
