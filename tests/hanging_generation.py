"""A generation whose forward hangs, for ever, where the user of a request is called `hang`: for tests of the watchdog.

It stands in for `swrec_prod.serving.process.generation`; everything else of it is the real one. With ESTIMATED_MS in
the environment every request is expected to take so long, which decides whether it is scored in the loop or in a
thread beside it.
"""

from __future__ import annotations

import os
import threading

from swrec_prod.serving.process.generation import main
from swrec_prod.serving.protocol.call import ScoreCall
from swrec_prod.serving.scoring.predictor import Predictor, Scored

NAME = "hang"
ESTIMATED_MS = float(os.environ["ESTIMATED_MS"])
score = Predictor.score


def score_or_hang(self: Predictor, call: ScoreCall, scenario: int, strength: float) -> Scored:
    """As Predictor.score; where it hangs, other threads get the interpreter, as beside a forward."""
    if any(column.name == "user_id" and NAME in column.values for column in call.user):
        threading.Event().wait()
    return score(self, call, scenario, strength)


if __name__ == "__main__":
    Predictor.score = score_or_hang  # type: ignore[method-assign]
    Predictor.milliseconds = lambda self, rows: ESTIMATED_MS  # type: ignore[method-assign]
    main()
