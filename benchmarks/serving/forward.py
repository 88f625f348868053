"""What a package's program saves by computing once what a request has once, in process, on one thread.

fold_<model>         the folded graph against the graph of training over the same request, compiled alike (packages of
                     formats 1 and 2 had both): requests/s with 10 scenarios, 10 or 100 candidates, where it gains less
fold_<model>_1000    1,000 scenarios against 10, 100 candidates
mscan_user_once      M-scan, 50 behaviours, 500 candidates: raw values encoded and scored, against the same candidates
                     each with its own copy of the user
m2m_user_once        M2M, 1,000 candidates: the same
star_1000_bytes      a package's program of full-weight STAR with 1,000 scenarios: bytes against those of its weights

What is compared is measured in turns; a figure is the median turn's.
"""

from __future__ import annotations

import io
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.record import Figure, report
from benchmarks.serving.path import make_package, message
from swrec_prod.blocks.debias import Scorer
from swrec_prod.config import RunConfig
from swrec_prod.encoding.pack import Ragged, pack_halves
from swrec_prod.encoding.unpack import unpack
from swrec_prod.export.earlier_formats import with_user_repeated
from swrec_prod.export.loaded import tensors_of
from swrec_prod.export.program import ScoreProgram, compile_program
from swrec_prod.layers.inputs import Inputs, make_route
from swrec_prod.ranker import Ranker, build_ranker, resolve_run
from swrec_prod.schema import FeatureSchema
from swrec_prod.schema.layout import Layout
from swrec_prod.serving.protocol.call import call_of
from swrec_prod.serving.protocol.wire import ScoreRequest
from swrec_prod.serving.scoring.predictor import Predictor

FOLDED = {"star": ">= 1.3", "mmoe": ">= 1.3", "ple": ">= 1", "shared_bottom": ">= 1", "m2m": ">= 1", "mscan": ">= 1"}
USER_ONCE = {"mscan": 500, "m2m": 1000}  # candidates
SIZES, FEW, MANY = (10, 100), 10, 1000
HEIGHT, BEHAVIOURS = 10_000, 50
TURNS, SECONDS = 9, 0.1
Work = Callable[[], Any]


def main() -> None:
    """Measure and report."""
    report("bench-serving", figures(), {"threads": 1})


def figures() -> list[Figure]:
    """All of them, over models made for it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            folded = [figure for model, wanted in FOLDED.items() for figure in _folded(model, wanted)]
        return [*folded, *(_user_once(model) for model in USER_ONCE), _bytes()]
    finally:
        torch.set_num_threads(threads)


class MixedProgram(nn.Module):
    """The graph of training behind a program's tables: rows of any scenarios, sorted at entry and put back at exit."""

    def __init__(self, program: ScoreProgram, scorer: Scorer, num_scenarios: int) -> None:
        super().__init__()
        self.program, self.scorer, self.num_scenarios = program, scorer, num_scenarios

    def forward(self, user: list[Tensor], items: list[Tensor], scenario_B: Tensor) -> Tensor:
        """The label's logit, [B, T]. scenario_B: int64 [B]."""
        x_user, x_items, first = self.program.parts(user, items)
        order = torch.argsort(scenario_B, stable=True)
        x_BD = self.program.x(x_user, x_items)[order]
        route = make_route(scenario_B[order], self.num_scenarios)
        history = (first.history_UNd, first.mask_UN, first.scenario_UN)  # of one user, whatever the order
        scores = self.scorer(Inputs(x_BD, route, first.target_Bd[order], history[0], history[1], history[2]))
        return scores.logit_BT[torch.argsort(order)]


def _folded(model: str, wanted: str) -> list[Figure]:
    few, many = _ranker(model, FEW), _ranker(model, MANY)
    program, other = ScoreProgram(few, "none"), compile_program(ScoreProgram(many, "none"))
    one, mixed = compile_program(program), _scripted(MixedProgram(program, few.scorer, FEW))
    turns = {}
    for candidates in SIZES:
        user, items = _request(few.sparse.layout, candidates)
        scenario, scenario_B = torch.tensor([1]), torch.ones(candidates, dtype=torch.int64)
        assert torch.allclose(one(user, items, scenario)[0], mixed(user, items, scenario_B), atol=1e-4)
        turns[candidates] = in_turns(partial(one, user, items, scenario), partial(mixed, user, items, scenario_B))
    least = min(turns, key=lambda n: turns[n][0] / turns[n][1])
    context: dict[str, Any] = {f"ratio_n{n}": ours / theirs for n, (ours, theirs) in turns.items()}
    figure = Figure(f"fold_{model}", turns[least][0], "requests/s", "graph of training", turns[least][1], wanted)
    figure.context.update(context, candidates=least, scenarios=FEW, threads=1)
    user, items = _request(few.sparse.layout, SIZES[-1])
    thousand, ten = in_turns(lambda: other(user, items, scenario), lambda: one(user, items, scenario))
    context = {"candidates": SIZES[-1], "threads": 1}
    name = f"fold_{model}_{MANY}"
    return [figure, Figure(name, thousand, "requests/s", f"{FEW} scenarios", ten, ">= 0.9", "ratio", context)]


def _user_once(model: str) -> Figure:
    candidates = USER_ONCE[model]
    with tempfile.TemporaryDirectory() as folder:
        predictor = Predictor.load(make_package(model, Path(folder)) / model / "1")
    layout, call = predictor.encoder.layout, call_of(ScoreRequest.FromString(message(candidates)))

    def tiled() -> None:
        rows = with_user_repeated(layout, predictor.encoder.encode(call, 0))
        halves = pack_halves(layout, unpack(layout, rows), rows.scenario_B, user_rows=candidates)
        predictor.forward(halves, 0)

    ours, theirs = in_turns(lambda: predictor.forward(predictor.encoder.encode(call, 0), 0), tiled)
    context = {"candidates": candidates, "behaviours": BEHAVIOURS, "threads": 1}
    return Figure(f"{model}_user_once", ours, "requests/s", "the user in every row", theirs, ">= 5", "ratio", context)


def _bytes() -> Figure:
    ranker, file = _ranker("star", MANY), io.BytesIO()
    torch.jit.save(compile_program(ScoreProgram(ranker, "none")), file)
    weights = sum(value.nbytes for value in ranker.state_dict().values())
    return Figure("star_1000_bytes", file.tell(), "bytes", "weights", weights, "<= 1.1")


def in_turns(*works: Work) -> list[float]:
    """How often each is done in a second of this process's time: the median of some turns."""
    for work in works:
        for _ in range(20):
            work()
    rates = [[_rate(work) for work in works] for _ in range(TURNS)]
    return np.median(rates, 0).tolist()


def _rate(work: Work) -> float:
    start, done = time.process_time(), 0
    while (spent := time.process_time() - start) < SECONDS:
        work()
        done += 1
    return done / spent


def _ranker(model: str, scenarios: int) -> Ranker:
    """An untrained one over 8 ids, 3 of them the user's, and for models that read them behaviours."""
    ids = {f"user_{i}": "user" for i in range(3)} | {f"item_{i}": "item" for i in range(5)}
    features = [{"name": name, "kind": "id", "side": side, "encoder": "vocab"} for name, side in ids.items()]
    history = {"name": "history", "kind": "sequence", "side": "user", "item": "item_0", "max_length": BEHAVIOURS}
    schema = FeatureSchema.model_validate(
        {
            "name": "forward", "time": "time", "user": "user_0", "labels": [{"name": "click", "column": "click"}],
            "scenario": {"values": [str(i) for i in range(scenarios)]}, "features": [*features, history],
        }
    )  # fmt: skip
    schema = schema.with_features(tuple(f.model_copy(update={"rows": HEIGHT}) for f in schema.features))
    config = RunConfig.model_validate({"data": {"path": ".", "split": "random"}, "model": {"name": model}})
    return build_ranker(resolve_run(schema, config)).eval()


def _request(layout: Layout, candidates: int) -> tuple[list[Tensor], list[Tensor]]:
    """Random ids, as a program takes them."""
    draw = np.random.default_rng(candidates)
    columns: dict[str, Any] = {f.name: draw.integers(0, HEIGHT, 1) for f in layout.user_half.pooled}
    columns |= {f.name: draw.integers(0, HEIGHT, candidates) for f in layout.item_half.pooled}
    for sequence in layout.sequences:
        ends = np.array([0, BEHAVIOURS])
        columns[sequence.parts[0].name] = Ragged(draw.integers(0, HEIGHT, BEHAVIOURS), ends)
        columns[f"{sequence.name}.scenario"] = Ragged(draw.integers(0, layout.num_scenarios, BEHAVIOURS), ends)
    return tensors_of(layout, pack_halves(layout, columns, np.zeros(candidates, np.int64), user_rows=1))


def _scripted(module: nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.freeze(torch.jit.script(module.eval()))


if __name__ == "__main__":
    main()
