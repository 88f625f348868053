"""`swrec` commands in this process: as quick as a function, with the exit code and both streams of the command."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from swrec_prod.cli import main


@dataclass
class Outcome:
    """What a command printed. code: the exit code."""

    code: Any
    out: str
    err: str


def swrec(*words: Any) -> Outcome:
    """Run a command, whatever comes of it: swrec("datasets", "--json")."""
    code: Any = 0
    argv = ["swrec", *map(str, words)]
    with patch.object(sys, "argv", argv), redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as end:
            code = end.code
    return Outcome(code, out.getvalue(), err.getvalue())


def succeeds(*words: Any) -> str:
    """The standard output of a command that must succeed, without a traceback or a warning."""
    outcome = swrec(*words)
    assert outcome.code == 0, outcome
    assert "Traceback" not in outcome.err and "Warning" not in outcome.err, outcome.err
    return outcome.out


def refused(outcome: Outcome, message: str) -> None:
    """Exit code 2 and one line on stderr, `ErrorClass: ...`, with `message` in it; nothing else."""
    assert (outcome.code, outcome.out) == (2, ""), outcome
    lines = outcome.err.splitlines()
    assert len(lines) == 1 and lines[0].partition(": ")[0].endswith("Error"), outcome.err
    assert message in lines[0], outcome.err
