"""`make bench-models`: what a row costs with 3, 30, 100 and 355 scenarios, for every model.

About 10 minutes on 2 quiet cores.

scenario_cost_<model>_train    cost of a row in a training step with 355 scenarios, against that with 3, same widths
scenario_cost_<model>_score    the same for scoring rows of all scenarios mixed
default_cost_<model>_*         with --form default: the same for a model's default options
naive_cost_shared_bottom_*     the same for SharedBottom whose towers all see all rows, each keeping its own

A step is forward, loss, backward and Adam over all dense parameters, as train/optim.py has it; the tables' share does
not know of scenarios and is left out. Rows are like those of KuaiRand with every feature 16 wide, sorted by scenario as
the reader sorts them. Every size has a process of its own, as in training: beside others in one heap a step takes less
new memory from the system. The processes are measured in turns, and a cost is the median. OMP_NUM_THREADS says how many
threads.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.record import Figure, report
from swrec_prod.layers.inputs import Dims, Field, Inputs, make_route
from swrec_prod.layers.mlp import MLP
from swrec_prod.models import MODELS, build

SIZES = (3, 30, 100, 355)
ROWS, ITEM, FEATURES, BEHAVIOURS = 4096, 16, 34, 50
WARM_UP = 2
NAIVE = "naive"
KNOWN = (*MODELS, NAIVE)
MANY_SCENARIOS: Mapping[
    str, Mapping[str, Any]
] = {  # the form that a model's file recommends for many scenarios; others: as they are
    "aesm2": {"gate_form": "lowrank"},
    "csii": {"own_weights": "rank_one"},
    "hamur": {"backbone": "last_layer"},
    "m3oe": {"other_experts": "ema_expert", "own_weights": "rank_one"},
    "ple": {"own_weights": "rank_one"},
    "ppnet": {"tower": "last_layer"},
    "star": {"own_weights": "rank_one"},
}
GROWS = ("aesm2",)  # it compares the gates of all scenarios, by its definition: nothing is wanted of its ratio
CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    """Measure the models that are asked for and report each."""
    parser = _parser()
    options = parser.parse_args()
    if unknown := set(options.models) - set(KNOWN):
        parser.error(f"unknown model {min(unknown)}; known: {', '.join(KNOWN)}")
    names = options.models or KNOWN
    for at, name in enumerate(names, 1):
        print(f"{at} of {len(names)}: {name}", flush=True)
        report(
            "bench-models",
            figures(name, options),
            {"rounds": options.rounds, "batch": ROWS, "traffic": options.traffic},
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(KNOWN)}; default: all")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each size, taken in turns")
    form = "of a model: what its file recommends for many scenarios, or its default options"
    parser.add_argument("--form", choices=("recommended", "default"), default="recommended", help=form)
    traffic = (
        "rows for each scenario: as many for all (the harder case: "
        "skewed traffic leaves scenarios out of a batch), or skewed"
    )
    parser.add_argument("--traffic", choices=("uniform", "skewed"), default="uniform", help=traffic)
    clock = "cpu: time of all threads, for a machine that does other work"
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help=clock)
    return parser


class Cost(NamedTuple):
    """The cost of one call. faults: memory pages that the process got from the system meanwhile, each cleared first."""

    seconds: float
    faults: float


def figures(name: str, options: argparse.Namespace) -> list[Figure]:
    """Training and scoring of one model, and the costs in microseconds a row printed for all sizes."""
    form = MANY_SCENARIOS.get(name, {}) if options.form == "recommended" else {}
    with ExitStack() as running:
        calls = {S: running.enter_context(_process(name, S, options.traffic, form, options.clock)) for S in SIZES}
        costs_of = {kind: measured(calls, kind, options.rounds) for kind in ("train", "score")}
    costs = {kind: {S: cost.seconds * 1e6 / ROWS for S, cost in of.items()} for kind, of in costs_of.items()}
    Console(width=160).print(_table(name, costs))
    title, wanted = f"scenario_cost_{name}", "" if name in GROWS else "<= 1.3"
    if name == NAIVE:
        title, wanted = "naive_cost_shared_bottom", ""
    elif options.form == "default":
        title, wanted = f"default_cost_{name}", ""
    context = {"threads": torch.get_num_threads(), "clock": options.clock, "options": form}
    faults = {kind: {str(S): cost.faults for S, cost in of.items()} for kind, of in costs_of.items()}
    return [
        _figure(f"{title}_{kind}", cost, wanted, context | {"minor_faults": faults[kind]})
        for kind, cost in costs.items()
    ]


def measured(calls: Mapping[int, Callable[[str], Cost]], kind: str, rounds: int) -> dict[int, Cost]:
    """Medians of each size, measured `rounds` times in turns."""
    costs: dict[int, list[Cost]] = {S: [] for S in calls}
    for turn in range(WARM_UP + rounds):
        for S, call in calls.items():
            cost = call(kind)
            if turn >= WARM_UP:
                costs[S].append(cost)
    return {S: Cost(*map(statistics.median, zip(*of, strict=True))) for S, of in costs.items()}


@contextmanager
def _process(
    name: str, scenarios: int, traffic: str, form: Mapping[str, Any], clock: str
) -> Iterator[Callable[[str], Cost]]:
    """A process with one Work: takes the name of a call and gives its Cost.

    Raises RuntimeError where the process has died.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs, name, scenarios, traffic, form, clock), daemon=True)
    process.start()
    theirs.close()

    def call(kind: str) -> Cost:
        try:
            ours.send(kind)
            return ours.recv()
        except (EOFError, ConnectionError):
            process.join()
            raise RuntimeError(
                f"{name} with {scenarios} scenarios: its process ended with {process.exitcode}"
            ) from None

    with ours:
        yield call
    process.join()


def _serve(pipe: Connection, name: str, scenarios: int, traffic: str, form: Mapping[str, Any], clock: str) -> None:
    work, now = Work(name, scenarios, traffic, form), CLOCKS[clock]
    calls = {"train": work.train, "score": work.score}
    while True:
        try:
            call = calls[pipe.recv()]
        except EOFError:
            return
        faults, started = _minor_faults(), now()
        call()
        pipe.send(Cost(now() - started, _minor_faults() - faults))


def _minor_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _figure(name: str, cost: Mapping[int, float], wanted: str, context: Mapping[str, Any]) -> Figure:
    first, last = SIZES[0], SIZES[-1]
    reference = f"the same with {first} scenarios"
    context = {**context, "us_per_row": {str(S): value for S, value in cost.items()}}
    return Figure(name, cost[last], "us/row", reference, cost[first], wanted, context=context)


def _table(name: str, costs: Mapping[str, Mapping[int, float]]) -> Table:
    table = Table(title=f"{name}, us a row", title_justify="left")
    for title in ("scenarios", *map(str, SIZES)):
        table.add_column(title, justify="right")
    for kind, cost in costs.items():
        table.add_row(kind, *(f"{cost[S]:.2f} ({cost[S] / cost[SIZES[0]]:.2f})" for S in SIZES))
    return table


class Work:
    """One model of `scenarios` scenarios, its optimiser and one batch."""

    def __init__(self, name: str, scenarios: int, traffic: str, form: Mapping[str, Any]) -> None:
        torch.manual_seed(1)
        dims = _dims(scenarios)
        self.model = AllTowers(dims) if name == NAIVE else build(name, form, dims)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True)
        reads = name != NAIVE and MODELS[name].reads_history is not False
        self.inputs = _inputs(scenario_of_rows(scenarios, traffic), scenarios, BEHAVIOURS if reads else 0)
        self.labels_BT = (torch.rand(ROWS, 1) < 0.3).float()

    def train(self) -> None:
        """One step."""
        self.model.train()
        with_losses = getattr(self.model, "forward_with_losses", None)
        logit_BT, losses = with_losses(self.inputs) if with_losses else (self.model(self.inputs), {})
        loss = F.binary_cross_entropy_with_logits(logit_BT, self.labels_BT) + sum(losses.values())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.inputs.x_BD.grad = self.inputs.history_UNd.grad = None

    @torch.no_grad()
    def score(self) -> None:
        """All rows once."""
        self.model.eval()
        self.model(self.inputs)


class AllTowers(nn.Module):
    """SharedBottom as it is often written: every tower sees every row, and a row keeps what its own tower says."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.bottom = MLP(dims.x, (128,))
        self.towers = nn.ModuleList(MLP(128, (8,), dims.num_tasks) for _ in range(dims.num_scenarios))

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        h_BH, scenario_B1 = self.bottom(inputs.x_BD), inputs.route.scenario_B.unsqueeze(1)
        logit_BT = torch.zeros_like(h_BH[:, :1])
        for s, tower in enumerate(self.towers):
            logit_BT = torch.where(scenario_B1 == s, tower(h_BH), logit_BT)
        return logit_BT


def scenario_of_rows(scenarios: int, traffic: str) -> Tensor:
    """int64 [B], sorted: drawn alike, or skewed, where scenario k has traffic in proportion to 1 / (k + 1)."""
    share_S = torch.ones(scenarios) if traffic == "uniform" else 1 / torch.arange(1.0, scenarios + 1)
    return torch.multinomial(share_S, ROWS, replacement=True).sort().values


def _dims(scenarios: int) -> Dims:
    fields = [Field("user", 0, ITEM, "user", "id"), Field("item", ITEM, ITEM, "item", "id")]
    sides = ("user", "item", "context")
    fields += [Field(f"id_{i}", i * ITEM, ITEM, sides[i % 3], "id") for i in range(2, FEATURES)]
    fields.append(Field("duration", FEATURES * ITEM, 1, "item", "dense"))
    return Dims(FEATURES * ITEM + 1, scenarios, 1, ITEM, tuple(fields), user="user", target="item")


def _inputs(scenario_B: Tensor, scenarios: int, behaviours: int) -> Inputs:
    """Random rows, whose tables would want a gradient;
    histories of `behaviours`, half of them full, half in the row's scenario.
    """
    x_BD = torch.randn(ROWS, FEATURES * ITEM + 1, requires_grad=True)
    lengths_B1 = torch.randint(0, 2 * behaviours + 1, (ROWS, 1)).clamp(max=behaviours)
    mask_BN = torch.arange(behaviours) < lengths_B1
    history_BNd = torch.randn(ROWS, behaviours, ITEM, requires_grad=True)
    at_home_BN = torch.rand(ROWS, behaviours) < 0.5
    history_scenario_BN = (
        torch.where(at_home_BN, scenario_B.unsqueeze(1), torch.randint(0, scenarios, (ROWS, behaviours))) * mask_BN
    )
    target_Bd = x_BD.detach()[:, ITEM : 2 * ITEM]
    return Inputs(x_BD, make_route(scenario_B, scenarios), target_Bd, history_BNd, mask_BN, history_scenario_BN)


if __name__ == "__main__":
    main()
