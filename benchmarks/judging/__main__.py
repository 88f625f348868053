"""`make bench-judging`: what judging costs, and whether its intervals keep their word.

--quick in a tenth of the time. Each part is a file beside this one, which says what its figures are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from benchmarks.judging import auc, backfill, experiments
from benchmarks.record import Figure, report

TARGET = "bench-judging"
PARTS: dict[str, Callable[[bool], Iterable[Figure]]] = {
    "auc": auc.figures,
    "backfill": backfill.figures,
    "experiments": experiments.figures,
}


def main() -> None:
    """Measure and report, part by part."""
    options = _parser().parse_args()
    for name in options.parts or PARTS:
        print(f"{TARGET}: {name}", flush=True)
        report(TARGET, list(PARTS[name](options.quick)), {"quick": options.quick})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="fewer rows and repetitions")
    return parser


if __name__ == "__main__":
    main()
