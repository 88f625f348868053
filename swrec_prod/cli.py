"""The command line: each command parses, calls one function and prints. Exit codes: 0 done, 2 what the user can mend,
75 a training run that was told to leave and goes on by the same command, 130 Ctrl-C, 1 a bug.

Stages are imported inside the commands: `swrec --help` is quick, works where torch does not, and OpenMP's settings are
in place before torch is loaded.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args

import typer

from swrec_prod.cli_experiments import experiments, replay
from swrec_prod.cli_judging import judging
from swrec_prod.cli_models import models, reload
from swrec_prod.cli_serving import AsJson, health, loadtest, print_json, score, serve
from swrec_prod.errors import ConfigError, StoppedError, SwrecError, nearest
from swrec_prod.train.distributed import before_torch, end_at_once_if_ranked, quiet_libraries

app = typer.Typer(
    help="Train and serve multi-scenario recommendation models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

INTERRUPTED = 130  # typer's exit code of a command that got Ctrl-C
GOES_ON = 75  # EX_TEMPFAIL of sysexits.h: run the same command again

Data = Annotated[Path | None, typer.Option(help="The run's prepared folder, where it was moved.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


def main() -> None:
    """Entry point of the `swrec` command."""
    before_torch()
    quiet_libraries()
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("interrupted", file=sys.stderr)
        raise
    except StoppedError as stopped:
        _refuse(f"{type(stopped).__name__}: {stopped}", GOES_ON)
    except SwrecError as failure:
        _refuse(f"{type(failure).__name__}: {failure}")
    except OSError as failure:
        if failure.filename is None:
            raise
        _refuse(f"{type(failure).__name__}: {failure.filename}: {failure.strerror}")


def _refuse(message: str, code: int = 2) -> NoReturn:
    """End with what the user can mend: exit code 2; or can go on with."""
    print(message, file=sys.stderr)
    end_at_once_if_ranked(code)
    raise SystemExit(code)


@app.command()
def datasets(as_json: AsJson = False) -> None:
    """What raw sources are known: rows, size, scenarios, licence, how to get them.

    Example: `swrec datasets`
    """
    from swrec_prod.datasets.listing import as_text, known_sources

    print_json(known_sources()) if as_json else typer.echo(as_text(known_sources()))


@app.command()
def prepare(
    data: Annotated[str, typer.Argument(help="A dataset's name, or a data file or its name (configs/data/*.yaml).")],
    out: Annotated[Path, typer.Option(help="Folder for the prepared days.")],
    raw: Annotated[
        Path | None, typer.Option(help="The raw log; fetched where left out and the licence allows.")
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="local|cluster", help="DuckDB in this process, or an existing Spark cluster.")
    ] = "local",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Turn a raw log into encoded, point-in-time correct day-splits;
    only days that are new, changed or damaged are prepared.

    Example: `swrec prepare configs/data/movielens_1m_genre.yaml --out build/data/movielens_1m_genre`
    """
    from swrec_prod.prepare.data_file import DataFile
    from swrec_prod.prepare.run import prepare as run

    manifest = run(
        DataFile.load(data), raw, out, overwrite=overwrite, engine=engine, progress=_silent if as_json else typer.echo
    )
    if as_json:
        content = manifest.to_json()
        print_json({key: content[key] for key in ("dataset", "fingerprint", "rows", "splits", "nulls", "fit")})


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="Folder for log/, users, items, truth/ and data.yaml.")],
    days: Annotated[int, typer.Option(help="Days of the log.")],
    rows_per_day: Annotated[int, typer.Option(help="Impressions a day.")],
    scenarios: Annotated[int, typer.Option(help="2 to 1,000; traffic is skewed.")],
    seed: Annotated[int, typer.Option(help="The same seed and options give the same bytes.")],
    users: Annotated[int | None, typer.Option(help="Default: a twentieth of the rows a day.")] = None,
    items: Annotated[int | None, typer.Option(help="Default: a fiftieth of the rows a day.")] = None,
    direct_effect: Annotated[
        float, typer.Option(help="Scale of the scenario's direct influence on the click; 0: none.")
    ] = 1.0,
    drift: Annotated[
        float, typer.Option(help="Scale of what moves between days: tastes, qualities, new items; 0: nothing.")
    ] = 1.0,
    habit: Annotated[
        float, typer.Option(help="Scale of what clicks do to a user's interest on later days; 0: nothing.")
    ] = 1.0,
    conversions: Annotated[bool, typer.Option("--conversions", help="Add conversions after clicks.")] = False,
    random_exposure: Annotated[float, typer.Option(help="Share of requests whose items are drawn uniformly.")] = 0.0,
    start: Annotated[str, typer.Option(help="First day, YYYY-MM-DD.")] = "2024-01-01",
    history_length: Annotated[int, typer.Option(help="Behaviours of the history in data.yaml.")] = 50,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a raw log whose causes are known, and the hidden truth beside it.

    Example: `swrec simulate --out build/simulated --days 10 --rows-per-day 100000 --scenarios 10 --seed 1`
    """
    given = {
        f"--{name.replace('_', '-')}": value
        for name, value in locals().items()
        if name not in ("out", "overwrite", "as_json")
    }
    from swrec_prod.simulation.simulate import simulate as run
    from swrec_prod.simulation.world import Simulation
    from swrec_prod.strict import parse

    options = parse(Simulation, given, "swrec simulate")
    summary = run(options, out, overwrite=overwrite, progress=_silent if as_json else typer.echo)
    if as_json:
        return print_json(summary)
    typer.echo(f"wrote {summary['rows']:,} rows; next: swrec prepare {out / 'data.yaml'} --raw {out} --out PREPARED")


@app.command()
def train(
    run: Annotated[str, typer.Argument(help="A run file, or its name (configs/run/*.yaml).")],
    out: Annotated[Path, typer.Option(help="RUN_DIR to write.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, for example train.epochs=1")] = None,
    overwrite: Overwrite = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare the contents of all prepared files with the manifest first.")
    ] = False,
) -> None:
    """Train, keep the best weights, score the test rows; goes on where a run was cut off.

    The same command under one process, torchrun and TorchX.

    Example: `swrec train configs/run/movielens_mscan.yaml train.epochs=2 --out build/runs/mscan`
    """
    from swrec_prod.config import RunConfig

    config = RunConfig.load(run, overrides or [])
    from swrec_prod.evaluate.terminal import print_metrics
    from swrec_prod.train.run import train as fit

    metrics, main_rank = fit(config, out, overwrite=overwrite, verify=verify)
    if main_rank:
        print_metrics(metrics)


@app.command()
def evaluate(
    run_dir: Annotated[
        Path, typer.Argument(metavar="RUN_DIR|PACKAGE", help="A training run's folder, or REPO/NAME/VERSION.")
    ],
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    days: Annotated[str | None, typer.Option(help="Days to score instead, A..B.")] = None,
    group_by: Annotated[
        str, typer.Option(help="Column of predictions whose rows GAUC and NDCG compare: user, request, or a kept one.")
    ] = "user",
    ndcg_k: Annotated[int, typer.Option(min=1, help="Places that NDCG and figures of requests look at.")] = 10,
    request_by: Annotated[
        str, typer.Option(help="Column of predictions whose rows are one page: request, or a kept one, say a session.")
    ] = "request",
    min_rows: Annotated[int, typer.Option(min=0, help="Figures of fewer rows are null.")] = 0,
    min_positives: Annotated[int, typer.Option(min=0, help="Figures of fewer positive rows are null.")] = 0,
    cold_below: Annotated[
        int, typer.Option(min=1, help="Items and users with fewer training rows are judged apart, as cold.")
    ] = 10,
    unweighted: Annotated[
        bool, typer.Option("--unweighted", help="Count every row once, whatever its weight.")
    ] = False,
    predictions: Annotated[Path | None, typer.Option(help="Parquet file for the scored rows.")] = None,
    data: Annotated[Path | None, typer.Option(help="The prepared folder: of a package, or where it was moved.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score rows with a run's best weights, or a package's programs, and judge them, overall and per scenario.

    Example: `swrec evaluate build/runs/mscan --days 2001-01-01..2001-03-31 --predictions build/january.parquet`
    """
    if split not in ("train", "valid", "test"):
        raise ConfigError(f"--split {split}: not one of train, valid, test")
    from swrec_prod.evaluate.judging import Judging
    from swrec_prod.evaluate.run import evaluate as judge
    from swrec_prod.evaluate.terminal import print_metrics

    judging = Judging(group_by, ndcg_k, not unweighted, request_by, min_rows, min_positives, cold_below)
    metrics = judge(run_dir, part=split, days=days, data=data, judging=judging, predictions=predictions)  # type: ignore[arg-type]
    print_json(metrics) if as_json else print_metrics(metrics)


@app.command()
def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN_DIR...", help="Finished runs, each RUN_DIR or NAME=RUN_DIR.")
    ],
    baseline: Annotated[
        str | None, typer.Option(help="Variant that the others are held to; default: the first.")
    ] = None,
    clusters: Annotated[
        str,
        typer.Option(
            metavar="user|request|COLUMN", help="Column of predictions: rows of one value are not independent."
        ),
    ] = "user",
    bootstrap: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Resamples for intervals of log loss and GAUC; 1000 are usual, 0: none."),
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for compare.json, compare.md and compare.html.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs on the same test rows: which is better, and whether that is more than chance.

    Runs that differ in train.seed alone are seeds of one variant.

    Example: `swrec compare build/runs/shared_bottom build/runs/mscan --out build/compare`
    """
    from swrec_prod.compare.comparison import compare_runs
    from swrec_prod.compare.text import comparison_json, print_comparison

    comparison = compare_runs(runs, baseline, clusters, bootstrap)
    if out:
        from swrec_prod.pages.compare_page import write_comparison

        write_comparison(comparison, out)
    print_json(comparison_json(comparison)) if as_json else print_comparison(comparison)


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(help="RUN_DIR of a training run.")],
    out: Annotated[Path, typer.Option(help="HTML file to write; .md and .json are written beside it.")],
    served: Annotated[Path | None, typer.Option(help="JSON that `swrec score --json` printed, for the page.")] = None,
    backfill: Annotated[Path | None, typer.Option(help="Folder of a backfill to show and link.")] = None,
    comparison: Annotated[Path | None, typer.Option(help="Folder of `swrec compare` to show and link.")] = None,
) -> None:
    """One self-contained HTML page about a run, and the same as Markdown and JSON.

    Example: `swrec report build/runs/mscan --out build/mscan.html`
    """
    from swrec_prod.pages.elsewhere import sections_beside
    from swrec_prod.pages.run_page import write_report

    more = sections_beside(backfill, comparison, out)
    write_report(run_dir, out, _read_json(served) if served else None, more)
    typer.echo(f"wrote {out}")


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(help="RUN_DIR of a training run.")],
    to: Annotated[Path, typer.Option(help="REPO/NAME (the next version) or REPO/NAME/VERSION.")],
    quantize: Annotated[
        str | None, typer.Option(help="Tables in the package: none, fp16, int8, int4; default: the run file's.")
    ] = None,
    data: Data = None,
) -> None:
    """Publish a trained run as a package; refused when the package does not score as the run does.

    Example: `swrec export build/runs/mscan --to build/models/mscan --quantize int8`
    """
    from swrec_prod.checkpoint import load_run
    from swrec_prod.config import Quantize
    from swrec_prod.export.run import export_package
    from swrec_prod.run_dir import RunDir

    if quantize is not None and quantize not in get_args(Quantize):
        raise ConfigError(f"--quantize {quantize}: {nearest(quantize, get_args(Quantize))}")
    ranker, config, catalog = load_run(run_dir, data)
    metrics = RunDir(run_dir).metrics()
    export_package(ranker, config, catalog, to, quantize or config.export.quantize, metrics, typer.echo)  # type: ignore[arg-type]


app.command()(serve)
app.command()(health)
app.command()(score)
app.command()(loadtest)
app.command()(replay)
app.add_typer(judging)
app.add_typer(experiments, name="experiments")
app.command()(reload)
app.add_typer(models, name="models")


@app.command()
def doctor() -> None:
    """Say in plain words whether this installation can work, and what to do if not.

    Example: `swrec doctor`
    """
    from swrec_prod.doctor import main as examine

    raise SystemExit(examine())


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as failure:
        raise ConfigError(f"{path}: not readable as JSON: {failure}") from None


def _silent(line: str) -> None:
    pass


if __name__ == "__main__":
    main()
