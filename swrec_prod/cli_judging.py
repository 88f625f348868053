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

judging = typer.Typer()


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
    out: Annotated[Path | None, typer.Option(help="Folder for debias.json and debias.md.")] = None,
    as_json: AsJson = False,
) -> None:
    """Replay rows at other strengths c of debiasing, without inference: what is ordered better, and who is shown.

    Several runs that were trained with different alpha are compared by it.

    Example: `swrec debias build/runs/mscan --c -2,-1,0,1,2 --k 5 --out build/debias`
    """
    from swrec_prod.debiasing.causal_rows import numbers_of
    from swrec_prod.debiasing.curves import Asked, curves
    from swrec_prod.debiasing.curves_text import debias_json, print_debias, write_debias
    from swrec_prod.evaluate.compare import STRENGTHS

    grid = numbers_of(c) if c else STRENGTHS
    found = curves(runs, Asked(grid, k, page_by, random, truth))
    if out:
        write_debias(found, out)
    print_json(debias_json(found)) if as_json else print_debias(found)
