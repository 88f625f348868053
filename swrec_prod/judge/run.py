"""One backfill: a request in, its days judged, and what was found over all of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from swrec_prod.errors import ConfigError, DataError, nearest
from swrec_prod.files import locked, write_text
from swrec_prod.judge.backfill import WHOLE, Say, Share, check, judge_share, missing_days
from swrec_prod.judge.gate import GateRule, verdict_of
from swrec_prod.judge.record import BackfillRecord
from swrec_prod.judge.request import Request, read_request
from swrec_prod.judge.summary import summarised
from swrec_prod.judge.text import backfill_markdown
from swrec_prod.judge.workers import judge_in_processes

BACKFILL_MD = "backfill.md"
TAKEN = "another process writes what was found"


class Contest(NamedTuple):
    """Who is held to whom. champion: default: the first model. challenger: whom the rule is about, needed where there
    are several; rule: None: nobody is to be promoted.
    """

    champion: str | None = None
    challenger: str | None = None
    rule: GateRule | None = None

    def check(self, names: list[str]) -> None:
        """Raises ConfigError where the names are none of the models', or it is not said which one the rule is about."""
        for option, name in (("champion", self.champion), ("challenger", self.challenger)):
            if name is not None and name not in names:
                raise ConfigError(f"--{option} {name}: no such model; {nearest(name, names)}")
        others = [name for name in names if name != (self.champion or names[0])]
        if self.rule is not None and len(others) != 1 and self.challenger not in others:
            reason = f"say which of {', '.join(others)} with --challenger" if others else "one model has no challenger"
            raise ConfigError(f"the gate holds one challenger to the champion: {reason}")


NOBODY = Contest()


def backfill(
    request: Request, out: Path, *, share: Share = WHOLE, jobs: int = 1, contest: Contest = NOBODY, say: Say
) -> BackfillRecord | None:
    """Judge the days of a share that are not judged yet; gives what was found over all days, which is then in OUT too,
    or None where other processes have days left.

    jobs: processes on this machine. Raises ConfigError when OUT is another request's, DataError when another process
    works at the same share, or a model has seen a day.
    """
    contest.check([source.name for source in request.models])
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
    return _found(request, out, contest)


def gate(out: Path, contest: Contest) -> BackfillRecord:
    """The record of a finished backfill with what the contest's rule says, which is then in OUT too.

    Raises ConfigError for names that are no models', DataError for an unfinished backfill or one of a single model.
    """
    record = BackfillRecord.read(out)
    contest.check([model.name for model in record.models])
    champion = contest.champion or record.champion
    if champion != record.champion or _before_gauc_was_tested(record, contest.rule):
        record = summarised(read_request(out), out, champion)
    return _written(record, out, contest)


def _before_gauc_was_tested(record: BackfillRecord, rule: GateRule | None) -> bool:
    """Whether a rule asks for what a backfill of before does not say, though its days do."""
    asked = rule is not None and rule.scenario_gauc_loss is not None
    return asked and all(contrast.gauc is None for contrast in record.differences)


def _found(request: Request, out: Path, contest: Contest) -> BackfillRecord | None:
    """What was found, written; None where another process is writing it."""
    try:
        with locked(out / ".summary.lock", TAKEN):
            return _written(summarised(request, out, contest.champion), out, contest)
    except DataError as failure:
        if str(failure) != TAKEN:
            raise
        return None


def _written(record: BackfillRecord, out: Path, contest: Contest) -> BackfillRecord:
    if contest.rule is not None:
        record = record.model_copy(update={"verdict": verdict_of(record, contest.rule, contest.challenger)})
    record.write(out)
    write_text(out / BACKFILL_MD, backfill_markdown(record))
    return record
