"""What a benchmark of serving holds its figures to: that answers are right, and what the program takes by itself."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import grpc
import numpy as np
import pyarrow as pa

from benchmarks.serving.load import SCORE
from benchmarks.serving.models import Asked, asked, bodies, request_of
from swrec_prod.encoding.pack import pack
from swrec_prod.export.loaded import Package, encode_rows
from swrec_prod.serving.client import Client

LARGEST = 1e-5  # difference of a probability
CANDIDATES = 100


def check(repo: Path, target: str, number: int) -> None:
    """Compare answers with what the packages give offline, row by row. Raises AssertionError for a wrong one."""
    for name in ("mscan", "shared_bottom"):
        _check_model(repo / name / "1", target, number // 2)


def reply_bytes(target: str, model: str, candidates: int) -> int:
    """The size of an answer."""
    with grpc.insecure_channel(target) as channel:
        return len(channel.unary_unary(SCORE)(bodies(model, candidates, 1)[0], timeout=30))


def _check_model(path: Path, target: str, number: int) -> None:
    package, model = Package.load(path), path.parent.name
    with Client(target, timeout=30) as client:
        for seed in range(number):
            request = asked(CANDIDATES, 1000 + seed)
            scored = client.send(request_of(model, request))
            far = float(np.abs(scored.probability - _offline(package, request)).max())
            assert far <= LARGEST, f"{model}: a served probability is {far:.2g} from the package's own"


def _offline(package: Package, request: Asked) -> np.ndarray:
    """Probabilities [N, T] of the mixed program over a row a candidate, as `swrec evaluate --package` has them."""
    once = {"time": 0, "scenario": request.scenario, **request.user}
    once["history.time"] = list(range(len(request.user["history.item"])))
    rows = [{**once, **{name: int(v[i]) for name, v in request.items.items()}} for i in range(CANDIDATES)]
    columns, scenario_N = encode_rows(package.encoders, package.layout, pa.Table.from_pylist(rows))
    return package.programs.mixed(pack(package.layout, columns, scenario_N)).logit_BT.sigmoid().numpy()


def forwards_per_second(path: Path, candidates: int, seconds: float) -> float:
    """Of a package's program, called again and again in one thread of a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_forwards, (path, candidates, seconds))


def _forwards(path: Path, candidates: int, seconds: float) -> float:
    import torch

    torch.set_num_threads(1)
    package = Package.load(path)
    packed = package.sample(candidates)
    for _ in range(20):
        package.programs.request(packed, 0)
    done, start = 0, time.perf_counter()
    while (now := time.perf_counter()) < start + seconds:
        package.programs.request(packed, 0)
        done += 1
    return done / (now - start)
