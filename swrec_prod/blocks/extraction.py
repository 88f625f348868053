"""SAR-Net's cross-scenario behaviour extraction:
behaviours weighted by how well their item and their scenario fit the row's.

Shapes: B rows, U rows of users (B or 1), N behaviours, d their width, A attention width, S scenarios, E width of a
scenario's embedding. Sequences are padded on the right; masks are True at real behaviours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swrec_prod.layers.inputs import Inputs, Route
from swrec_prod.layers.mlp import MLP
from swrec_prod.layers.pooling import masked_softmax, weighted_sum


class BehaviourExtraction(nn.Module):
    """v = sum_k a_k h_k with a_k ~ a_it_k a_sc_k,
    both softmaxes over the row's behaviours (SAR-Net, CIKM 2021, eq. 1-4).

    renorm: divide by the sum of the products, which makes a_k the softmax of the sum of both logits. Without it the
    weights sum to about 1 / N, and v shrinks as histories grow. v is zero for an empty history.
    """

    def __init__(self, num_scenarios: int, scenario_dim: int, d: int, attention: Sequence[int], renorm: bool) -> None:
        super().__init__()
        self.item = TargetAttention(d, attention)
        self.scenario = ScenarioPairs(num_scenarios, scenario_dim)
        self.renorm = renorm

    def forward(self, inputs: Inputs) -> Tensor:
        """v: [B, d]"""
        item_BN = self.item(inputs.target_Bd, inputs.history_UNd)
        scenario_BN = self.scenario(inputs.route, inputs.history_scenario_UN)
        if self.renorm:
            a_BN = masked_softmax(item_BN + scenario_BN, inputs.mask_UN)
        else:
            a_BN = masked_softmax(item_BN, inputs.mask_UN) * masked_softmax(scenario_BN, inputs.mask_UN)
        return weighted_sum(a_BN, inputs.history_UNd)


class TargetAttention(nn.Module):
    """MLP([t ; h ; t - h ; t * h]), a logit for each behaviour.

    The part of t is computed once a row, and t - h adds no weights: what is linear in t and h is in theirs already. Of
    one user the part of h is computed once: the first layer is then linear in t, W_t t + (W_th diag(h_n)) t + W_h h_n.
    """

    def __init__(self, d: int, widths: Sequence[int]) -> None:
        super().__init__()
        first = (*widths, 1)[0]
        self.target = nn.Linear(d, first)
        self.behaviour = nn.Linear(2 * d, first, bias=False)
        self.rest = nn.Sequential(nn.ReLU(inplace=True), MLP(first, widths[1:], 1)) if widths else nn.Identity()

    def forward(self, target_Bd: Tensor, history_UNd: Tensor) -> Tensor:
        """[B, N]"""
        if history_UNd.shape[0] != target_Bd.shape[0]:
            return self.rest(self.first_of_one(target_Bd, history_UNd[0])).squeeze(2)
        t_B1d = target_Bd.unsqueeze(1)
        both_BNd = torch.cat([history_UNd, t_B1d * history_UNd], 2)
        return self.rest(self.behaviour(both_BNd) + self.target(t_B1d)).squeeze(2)

    def first_of_one(self, target_Bd: Tensor, history_Nd: Tensor) -> Tensor:
        """What the first layer gives for the behaviours of one user, as one product: [B, N, A]"""
        own_Ad, both_Ad = self.behaviour.weight.chunk(2, 1)
        weight_NAd = both_Ad * history_Nd.unsqueeze(1) + self.target.weight
        bias_NA = F.linear(history_Nd, own_Ad, self.target.bias)
        first = F.linear(target_Bd, weight_NAd.flatten(0, 1), bias_NA.flatten())
        return first.view(target_Bd.shape[0], bias_NA.shape[0], bias_NA.shape[1])


class ScenarioPairs(nn.Module):
    """The logit of a behaviour in scenario s' for a row in scenario s: q_s . k_s' / sqrt(E), from one embedding e.

    The id is all that is known of a scenario, so the logits are a table [S, S], made by one small product a batch.
    """

    def __init__(self, num_scenarios: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_scenarios, dim) * 0.1)
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)

    def table(self) -> Tensor:
        """[S, S]"""
        return self.query(self.weight) @ self.key(self.weight).t() / self.weight.shape[1] ** 0.5

    def forward(self, route: Route, history_scenario_UN: Tensor) -> Tensor:
        """[B, N], or [1, N] where user and scenario are one"""
        return look_up(self.table(), route, history_scenario_UN)

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """The table, computed once."""
        return PairTable(self.table())


class PairTable(nn.Module):
    """A constant for each pair of scenarios, the row's and the behaviour's."""

    def __init__(self, table_SS: Tensor) -> None:
        super().__init__()
        self.table = nn.Buffer(table_SS.detach().clone())

    def forward(self, route: Route, history_scenario_UN: Tensor) -> Tensor:
        """[B, N], or [1, N] where user and scenario are one"""
        return look_up(self.table, route, history_scenario_UN)


def look_up(table_SS: Tensor, route: Route, history_scenario_UN: Tensor) -> Tensor:
    """table[s, s'] for the row's scenario s and each behaviour's s': [B, N]. A behaviour whose scenario is not known
    (index S) counts as the mean of all.
    """
    with_unknown = torch.cat([table_SS, table_SS.mean(1, keepdim=True)], 1)
    pair_BN = route.scenario_B.unsqueeze(1) * with_unknown.shape[1] + history_scenario_UN
    return F.embedding(pair_BN, with_unknown.reshape(-1, 1)).squeeze(2)
