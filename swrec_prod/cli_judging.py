"""Commands that judge over days, models and experiments. `cli` adds them to its own, and turns their errors into exit
codes.

    @judging.command()                              swrec NAME
    GROUP = typer.Typer(help=..., no_args_is_help=True); judging.add_typer(GROUP, name="GROUP")
    @GROUP.command()                                swrec GROUP NAME

Stages are imported inside the commands, as there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swrec_prod.cli_serving import AsJson, print_json
from swrec_prod.errors import ConfigError

judging = typer.Typer()


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
    from swrec_prod.judge.studies import STUDIES

    if name == "list":
        return _list_studies({key: known.question for key, known in STUDIES.items()}, as_json)
    from swrec_prod.judge.study_plan import plan_study

    given = list(words or ())
    run = given.pop(0) if given and "=" not in given[0] else None
    planned = plan_study(name, run, given, seeds=_seeds(seeds), along=along, rows=rows, quick=quick)
    if plan:
        return print_json(planned.to_json()) if as_json else typer.echo(planned.to_text())
    if out is None:
        raise ConfigError("--out: give the folder of the study, or --plan")
    from swrec_prod.judge.study_result import carry_out
    from swrec_prod.judge.study_text import study_json, study_markdown, write_study
    from swrec_prod.pages.compare_page import write_comparison

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
