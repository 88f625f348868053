"""One measurement of training speed in a process (or ranks) of its own: prints a JSON line.

python -m benchmarks.throughput raw --data FOLDER --threads 2
torchrun --standalone --nproc-per-node 2 -m benchmarks.throughput ours --config RUN.yaml --threads 1 --batch 16384
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from swrec_prod.train.distributed import before_torch

WARM_UP = 20


def main() -> None:
    """Measure and print {"rows_per_second"},
    and of ours the rows of an epoch and the seconds that decoding took before.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("raw", "ours"))
    parser.add_argument("--config", type=Path, help="run file (ours)")
    parser.add_argument("--data", required=True, help="prepared folder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the run file (ours)")
    parser.add_argument("--dropout", type=float, default=0.0, help="of the reference's network (raw)")
    options = parser.parse_args()
    before_torch()
    measurement = _raw(options) if options.what == "raw" else _ours(options)
    if measurement:
        print(json.dumps(measurement), flush=True)


def _raw(options: argparse.Namespace) -> dict[str, float]:
    import torch

    torch.set_num_threads(options.threads)
    from benchmarks.raw_loop import rows_per_second

    return {"rows_per_second": rows_per_second(Path(options.data), options.batch, options.dropout, options.epochs)}


def _ours(options: argparse.Namespace) -> dict[str, float]:
    """The product's own reader, model, optimiser and step; every rank takes the same steps, the main rank reports."""
    from swrec_prod.config import RunConfig
    from swrec_prod.data.catalog import Catalog
    from swrec_prod.ranker import resolve_run
    from swrec_prod.train.distributed import process_group
    from swrec_prod.train.loop import FitState
    from swrec_prod.train.run import make_fit, make_reader

    overrides = [f"train.batch_size={options.batch}", f"data.path={options.data}", *options.set]
    config = RunConfig.load(options.config, overrides)
    catalog = Catalog.open(config.data.path)
    run = resolve_run(catalog.schema, config)
    with process_group(options.threads) as ranks:
        started = time.perf_counter()
        readers = {part: make_reader(catalog, run, part, ranks) for part in ("train", "valid")}
        load_seconds = time.perf_counter() - started
        fit = make_fit(catalog, run, readers, ranks)
        fit.model.train()
        for _, batch in zip(range(WARM_UP), readers["train"].epoch(0), strict=False):
            fit.step(batch)
        state = FitState(epoch=1)
        for _ in range(options.epochs):
            for _ in fit.epoch(state, 1, lambda *_: None):
                pass
        speed = state.rows / state.seconds
        measurement = {"rows_per_second": speed, "load_seconds": load_seconds, "rows": readers["train"].rows}
        return measurement if ranks.is_main else {}


if __name__ == "__main__":
    main()
