"""Runs whose ranks are killed at random steps, restarted, and compared with one that was left alone, bit for bit.

    python -m benchmarks.killed_runs build/data/movielens_1m_genre --points 20 --out build/killed

Ranks 1, 2 and 3 in turns; at each point SIGKILL of one rank or of all. Ends with 1 where any weight differs.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # their script of ranks that die

from killed_ranks import trained  # noqa: E402
from runs import config_of, run_file  # noqa: E402

from swrec_prod.checkpoint import latest  # noqa: E402

STEPS = 10  # of the eleven that a run has, at most, before a rank is killed


def main() -> int:
    """Print a line a point; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="a prepared folder")
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True, help="an empty folder")
    given = parser.parse_args()
    draw, whole, wrong = np.random.default_rng(1), dict[int, str](), 0
    for point in range(given.points):
        ranks = 1 + point % 3
        if ranks not in whole:
            whole[ranks] = weights(given.data, given.out / f"whole-{ranks}", ranks, "-1:")
        victims = range(ranks) if draw.random() < 0.5 else [int(draw.integers(ranks))]
        life = f"{draw.integers(1, STEPS + 1)}:{'.'.join(map(str, victims))}"
        same = weights(given.data, given.out / f"point-{point}", ranks, life) == whole[ranks]
        wrong += not same
        print(f"{ranks} rank(s), killed at {life}: {'the same weights' if same else 'OTHER WEIGHTS'}", flush=True)
    print(f"{given.points - wrong} of {given.points} end with the weights of a run that was left alone")
    return int(wrong > 0)


def weights(data: Path, folder: Path, ranks: int, life: str) -> str:
    """The checksum of all tensors in the last checkpoint of a run."""
    folder.mkdir(parents=True)
    more = {"checkpoint": {"steps": 3}, "model": {"name": "shared_bottom", "dropout": 0.1}}
    run = run_file(folder, config_of(data, more=more, batch_size=360 // ranks, replicate_kib=0, epochs=1))
    end = latest(trained(folder, run, ranks, [life]) / "checkpoints")
    assert end is not None
    digest = hashlib.sha256()
    for file in sorted(end.glob("*.distcp")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
