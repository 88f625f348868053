"""Commands that change what a server serves. `cli` adds them to its own, and turns their errors into exit codes.

Stages are imported inside the commands, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swrec_prod.cli_serving import AsJson, print_json
from swrec_prod.errors import ConfigError, PackageError, ServerError

if TYPE_CHECKING:
    from swrec_prod.serving.process.change import Outcome
    from swrec_prod.serving.routing.labels import Labels

models = typer.Typer(help="Label versions of packages, go back, and list them.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="REPO/NAME: the folder of a model's versions.")]
Admin = Annotated[
    Path | None, typer.Option(help="A server's --admin socket: it reloads at once, or the label stays where it was.")
]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the outcome.")]
LONG = 900.0  # as process/supervisor.py gives a package


def reload(
    socket: Annotated[Path, typer.Argument(help="The server's --admin socket.")],
    timeout: Timeout = LONG,
    as_json: AsJson = False,
) -> None:
    """Have a server look at its packages, labels, routes and experiments again, and say what became of it.

    All of it is served, or nothing changes: then this fails, naming the stage that refused it and why.

    Example: `swrec reload /run/swrec/admin`
    """
    from swrec_prod.serving.process.admin import ask_to_reload

    outcome = _accepted(ask_to_reload(socket, timeout))
    print_json(outcome._asdict()) if as_json else typer.echo(_told(outcome))


@models.command()
def label(
    folder: Folder,
    name: Annotated[str, typer.Argument(metavar="LABEL", help="stable or canary.")],
    version: Annotated[int | None, typer.Argument(help="The version; left out, the label is taken off.")] = None,
    admin: Admin = None,
    timeout: Timeout = LONG,
) -> None:
    """Give a version a label: `stable` scores where nobody names a version, `canary` is the one being tried.

    Of a model with labels a server has exactly the labelled versions in memory. What was stable becomes `previous`.

    Example: `swrec models label build/models/mscan stable 4 --admin /run/swrec/admin`
    """
    from swrec_prod.errors import nearest
    from swrec_prod.serving.routing.labels import Labels

    if name not in ("stable", "canary"):
        raise ConfigError(f"label {name!r}: {nearest(name, ('stable', 'canary'))}")
    before = Labels.of(folder)
    _relabel(folder, before, before.moved(name, version), admin, timeout)  # type: ignore[arg-type]


@models.command()
def rollback(folder: Folder, admin: Admin = None, timeout: Timeout = LONG) -> None:
    """Make stable what was so before. It is in memory still, so that nothing has to be loaded.

    Example: `swrec models rollback build/models/mscan --admin /run/swrec/admin`
    """
    from swrec_prod.serving.routing.labels import Labels

    before = Labels.of(folder)
    _relabel(folder, before, before.rolled_back(), admin, timeout)


@models.command(name="list")
def list_(
    repo: Annotated[Path, typer.Argument(help="REPO: the folder of packages, REPO/NAME/VERSION.")],
    as_json: AsJson = False,
) -> None:
    """List complete versions and their labels.

    Example: `swrec models list build/models`
    """
    from swrec_prod.export.package import ready_versions
    from swrec_prod.serving.routing.labels import Labels

    if not repo.is_dir():
        raise PackageError(f"{repo}: no such folder; expected REPO with packages REPO/NAME/VERSION")
    found: dict[str, dict[str, Any]] = {
        folder.name: {"versions": versions, "labels": Labels.of(folder).model_dump(exclude_none=True)}
        for folder in sorted(repo.iterdir())
        if (versions := ready_versions(folder))
    }
    if as_json:
        return print_json(found)
    for name, of_name in found.items():
        labels = _listed(of_name["labels"])
        typer.echo(f"{name}: {', '.join(map(str, of_name['versions']))}{f' ({labels})' if labels else ''}")


def _listed(labels: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {version}" for name, version in labels.items())


def _relabel(folder: Path, before: Labels, after: Labels, admin: Path | None, timeout: float) -> None:
    """Write the labels; where a server is asked and refuses them, write the old ones again."""
    from swrec_prod.serving.process.admin import ask_to_reload

    after.save(folder)
    typer.echo(
        f"{folder}: " + (", ".join(f"{k} {v}" for k, v in after.model_dump(exclude_none=True).items()) or "none")
    )
    if admin is None:
        return
    outcome = ask_to_reload(admin, timeout)
    if outcome.result == "refused":
        before.save(folder)
    typer.echo(_told(_accepted(outcome)))


def _accepted(outcome: Outcome) -> Outcome:
    if outcome.result == "refused":
        serving = ", ".join(outcome.serving)
        raise ServerError(f"refused at {outcome.stage}: {outcome.reason}; {serving} is served as before")
    return outcome


def _told(outcome: Outcome) -> str:
    return f"{outcome.result} after {outcome.seconds:.2f} s: {', '.join(outcome.serving)}"
