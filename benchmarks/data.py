"""`make bench-data`: simulating, preparing and reading. About ten minutes on two quiet cores.

python -m benchmarks.data prepare    one part: simulate, prepare, reader or memory
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.prepare import prepare_figures
from benchmarks.reader import reader_peak_mb, reader_vs_train
from benchmarks.record import Figure, report
from benchmarks.simulate import simulate_figures

PARTS: dict[str, Callable[[int], list[Figure]]] = {
    "simulate": lambda rounds: simulate_figures(rounds=rounds),
    "prepare": prepare_figures,
    "reader": reader_vs_train,
    "memory": reader_peak_mb,
}


def main() -> None:
    """Measure and report the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument(
        "--rounds", type=int, default=3, help="measurements of each speed, of which the median is taken"
    )
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"part {unknown[0]!r} is unknown; choose from {', '.join(PARTS)}")
    for part in options.parts or PARTS:
        report("bench-data", PARTS[part](options.rounds), {"rounds": options.rounds})


if __name__ == "__main__":
    main()
