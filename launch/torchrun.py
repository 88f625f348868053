"""torchrun, whose failures end with the failed rank's own line and exit code instead of pages of traceback.

    python -m swrec_prod.launch.torchrun --nproc-per-node 2 --max-restarts 3 -m swrec_prod.cli train RUN.yaml --out DIR

It takes torchrun's options. What the ranks print stands above; this adds one line: which rank ended first, and how.
"""

from __future__ import annotations

import logging
import signal
import sys

INTERRUPTED = 128  # and a signal's number: how shells say that a process was ended by one


def main(words: list[str] | None = None) -> int:
    """Run torchrun; gives the exit code of the rank that failed first, 128 + the signal's number where one ended it."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        run(parse_args(words))
    except ChildFailedError as failure:
        rank, first = failure.get_first_failure()
        code = first.exitcode if first.exitcode >= 0 else INTERRUPTED - first.exitcode
        print(f"rank {rank} ended first: {_how(first.exitcode)}", file=sys.stderr)
        return code
    except SignalException as ended:
        print(f"ended by {signal.Signals(ended.sigval).name}", file=sys.stderr)
        return INTERRUPTED + int(ended.sigval)
    return 0


def _how(code: int) -> str:
    """An exit code in words.

    >>> _how(-9), _how(2)
    ('killed by SIGKILL', 'exit code 2; its reason stands above')
    """
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}; its reason stands above"


if __name__ == "__main__":
    raise SystemExit(main())
