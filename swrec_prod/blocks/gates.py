"""PEPNet's gates (Chang et al., KDD 2023): GateNU(a) = 2 sigmoid(W_2 ReLU(W_1 a)), in (0, 2) and near 1 at the start.

Shapes: B rows, D input width, I input width, O output width, H_l width of a tower's layer l.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from swrec_prod.errors import nearest
from swrec_prod.layers.fields import Pick
from swrec_prod.layers.grouped import GroupedLinear
from swrec_prod.layers.inputs import Dims, Route
from swrec_prod.layers.mlp import MLP
from swrec_prod.layers.options import Norm
from swrec_prod.layers.scenario import ConditionedMLP, ScenarioMLP

Sharing = Literal["shared", "per_scenario"]
Tower = Literal["shared", "last_layer", "per_scenario"]


class Shared(nn.Module):
    """A layer of all scenarios, called as a layer with weights per scenario is."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x_BI: Tensor, route: Route) -> Tensor:
        """[B, O]"""
        return self.layer(x_BI)


class ScenarioGate(nn.Module):
    """EPNet: delta = GateNU([e_s ; sg(x)]), a factor for every coordinate of x; sg stops the gradient.

    hidden: width, D if None.
    """

    def __init__(self, num_scenarios: int, scenario_dim: int, width: int, hidden: int | None = None) -> None:
        super().__init__()
        self.mlp = ConditionedMLP(num_scenarios, scenario_dim, width, (hidden or width,), width)

    def forward(self, x_BD: Tensor, route: Route) -> Tensor:
        """delta: [B, D]"""
        return 2 * self.mlp(x_BD.detach(), route).sigmoid()


class PersonalGates(nn.Module):
    """PPNet: delta_l = GateNU_l([o ; sg(a)]) for every hidden layer l; o: the prior ids, a: the other features.

    prior: names of the features in o; none: the user and the target item. hidden: of every gate, H_l if None. dropout:
    of o. All first layers are one product; W_1 [o ; sg(a)] is two, as the one with `a` needs no gradient of its input.
    Raises ValueError for an unknown name, and for data without user and item ids.
    """

    def __init__(
        self,
        dims: Dims,
        prior: Sequence[str],
        widths: Sequence[int],
        hidden: int | None,
        sharing: Sharing,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        names = prior_names(dims, prior)
        others = [f.name for f in dims.fields if f.name not in names]
        self.hidden = [hidden or width for width in widths]
        self.prior = Pick(dims.fields, names)
        self.others = Pick(dims.fields, others) if others else None
        self.dropout = nn.Dropout(dropout)
        total = sum(self.hidden)
        self.first = _linear(sharing, dims.num_scenarios, self.prior.d_out, total)
        self.first_others = _linear(sharing, dims.num_scenarios, self.others.d_out, total) if self.others else None
        pairs = zip(self.hidden, widths, strict=True)
        self.second = nn.ModuleList(_linear(sharing, dims.num_scenarios, i, o) for i, o in pairs)

    def forward(self, prior_BD: Tensor, others_BD: Tensor, route: Route) -> list[Tensor]:
        """delta_l: [B, H_l] for each l.

        Both inputs are laid out as x; o is cut out of the first, `a` out of the second.
        """
        hidden = self.first(self.dropout(self.prior(prior_BD)), route)
        if self.others is not None and self.first_others is not None:
            hidden = hidden + self.first_others(self.others(others_BD.detach()), route)
        parts = hidden.relu().split(self.hidden, 1)
        gates = []
        for layer, second in enumerate(self.second):
            gates.append(2 * second(parts[layer], route).sigmoid())
        return gates


class GatedTower(nn.Module):
    """h_l = dropout(ReLU(norm(W_l h_{l-1}))) * delta_l, then a Linear: [B, I] -> [B, O]. tower: see `layers`."""

    def __init__(
        self,
        num_scenarios: int,
        d_in: int,
        widths: Sequence[int],
        d_out: int,
        tower: Tower,
        norm: Norm = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.hidden, self.out = layers(num_scenarios, d_in, widths, d_out, tower, norm, dropout)

    def forward(self, x_BI: Tensor, gates: list[Tensor], route: Route) -> Tensor:
        """[B, O]. gates: [B, H_l] for each hidden layer."""
        for index, layer in enumerate(self.hidden):
            x_BI = layer(x_BI, route) * gates[index]
        return self.out(x_BI, route)


def layers(
    num_scenarios: int, d_in: int, widths: Sequence[int], d_out: int, tower: Tower, norm: Norm, dropout: float
) -> tuple[nn.ModuleList, nn.Module]:
    """The hidden layers and the last Linear of an MLP, to be called layer(x, route):
    all "per_scenario", "last_layer" only, or "shared".

    With layers per scenario, hundreds of scenarios mean hundreds of times the parameters, and few rows for each.
    """
    out = _linear("shared" if tower == "shared" else "per_scenario", num_scenarios, (d_in, *widths)[-1], d_out)
    if tower == "per_scenario":
        return ScenarioMLP(num_scenarios, d_in, widths, d_out, norm, dropout).hidden, out
    pairs = itertools.pairwise((d_in, *widths))
    return nn.ModuleList(Shared(MLP(i, (o,), norm=norm, dropout=dropout)) for i, o in pairs), out


def prior_names(dims: Dims, prior: Sequence[str]) -> list[str]:
    """The features that PPNet's gates read as prior: those named, or user and target item. Raises ValueError."""
    known = [f.name for f in dims.fields]
    for name in prior:
        if name not in known:
            raise ValueError(f"prior: no feature is called {name!r}; {nearest(name, known)}")
    names = list(prior) or [name for name in (dims.user, dims.target) if name is not None]
    if not names:
        raise ValueError("the gates read the ids of user and item, but the data have neither: name features in `prior`")
    return names


def _linear(sharing: Sharing, num_scenarios: int, d_in: int, d_out: int) -> nn.Module:
    return GroupedLinear(num_scenarios, d_in, d_out) if sharing == "per_scenario" else Shared(nn.Linear(d_in, d_out))
