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
