"""Runs under torchrun whose ranks are killed on the way, and go on by themselves: what tests and benchmarks share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs import ROOT, environment

# As the command line, but in the nth life of the ranks, those of the nth word STEP:RANK.RANK kill themselves.
KILLED_SCRIPT = """
import os, signal, sys
from swrec_prod.cli import main
from swrec_prod.train.loop import Fit

lives, life, steps = sys.argv.pop(1).split(","), int(os.environ["TORCHELASTIC_RESTART_COUNT"]), 0

def step(self, *words, make=Fit.step):
    global steps
    steps += 1
    at, _, ranks = (lives[life] if life < len(lives) else "-1:").partition(":")
    if steps == int(at) and os.environ["RANK"] in ranks.split("."):
        os.kill(os.getpid(), signal.SIGKILL)
    return make(self, *words)

Fit.step = step
if __name__ == "__main__":
    main()
"""


def launched(folder: Path, ranks: int, restarts: int, *words: Any) -> subprocess.Popen[str]:
    """Ranks under our torchrun, running; words: a script or module and its arguments. What they say: said.txt."""
    options = ("--standalone", f"--nproc-per-node={ranks}", f"--max-restarts={restarts}", "--monitor-interval=0.1")
    command = [sys.executable, "-m", "swrec_prod.launch.torchrun", *options, *map(str, words)]
    with (folder / "said.txt").open("w") as said:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment(), text=True, stdout=said, stderr=said, start_new_session=True
        )


def trained(folder: Path, run: Path, ranks: int, lives: Sequence[str] = (), timeout: float = 400) -> Path:
    """The RUN_DIR of a run file whose ranks die as `lives` say and are restarted as often. folder: an empty one.

    Raises AssertionError with what was said when it does not end well.
    """
    (folder / "killed.py").write_text(KILLED_SCRIPT)
    words = (folder / "killed.py", ",".join(lives) or "-1:", "train", run, "--out", folder / "run")
    process = launched(folder, ranks, len(lives), *words)
    try:
        code = process.wait(timeout)
    finally:
        process.kill()
    assert code == 0, (folder / "said.txt").read_text()[-3000:]
    return folder / "run"
