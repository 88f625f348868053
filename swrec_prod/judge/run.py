"""One backfill: a request in, its days judged, and what was found over all of them."""

from __future__ import annotations

from pathlib import Path

from swrec_prod.errors import ConfigError, DataError, nearest
from swrec_prod.files import locked, write_text
from swrec_prod.judge.backfill import WHOLE, Say, Share, check, judge_share, missing_days
from swrec_prod.judge.record import BackfillRecord
from swrec_prod.judge.request import Request
from swrec_prod.judge.summary import summarised
from swrec_prod.judge.text import backfill_markdown
from swrec_prod.judge.workers import judge_in_processes

BACKFILL_MD = "backfill.md"


def backfill(
    request: Request, out: Path, *, share: Share = WHOLE, jobs: int = 1, champion: str | None = None, say: Say
) -> BackfillRecord | None:
    """Judge the days of a share that are not judged yet; gives what was found over all days, which is then in OUT too,
    or None where other processes have days left.

    jobs: processes on this machine. champion: whom the other models are held to; default: the first. Raises ConfigError
    when OUT is another request's, DataError when another process works at the same share, or a model has seen a day.
    """
    names = [source.name for source in request.models]
    if champion is not None and champion not in names:
        raise ConfigError(f"--champion {champion}: no such model; {nearest(champion, names)}")
    check(request, out, say)
    busy = f"{out}: another swrec backfill works there; wait for it, or stop it"
    with locked(out / f".share-{share.at}-of-{share.of}.lock", busy):
        if jobs > 1:
            judge_in_processes(request, out, share, jobs)
        else:
            judge_share(request, out, share, say)
    missing = missing_days(request, out)
    if missing:
        say(f"{missing} days are left to other shares; whoever judges the last one writes {out / BACKFILL_MD}")
        return None
    return _written(request, out, champion)


def _written(request: Request, out: Path, champion: str | None) -> BackfillRecord | None:
    """What was found, written; None where another process is writing it."""
    try:
        with locked(out / ".summary.lock", "taken"):
            record = summarised(request, out, champion)
            record.write(out)
            write_text(out / BACKFILL_MD, backfill_markdown(record))
            return record
    except DataError as failure:
        if str(failure) != "taken":
            raise
        return None
