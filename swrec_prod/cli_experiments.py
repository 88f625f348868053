"""Commands about online experiments. `cli` adds them to its own, and turns their errors into exit codes.

Stages are imported inside the commands, as there.
"""

from __future__ import annotations

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
