"""PLE: experts of each scenario beside shared ones, in levels (Tang et al., RecSys 2020, eq. 1-8).

A level maps u, the path of the row's scenario s, and v, the shared path; both are x at first. f_s are the M experts of
scenario s, f the N shared ones, and . weighs what they say:

    u' = softmax(G_s u) . [f_s(u) ; f(v)]
    v' = softmax(G v) . [f_1 ; .. ; f_S ; f(v)]     (in all levels but the last)
    z = MLP_s(u)                                    (after the last)

Shapes: B rows, S scenarios, M and N experts, I input width of a level, H expert width, T tasks.
"""

from __future__ import annotations

from torch import Tensor, nn

from swrec_prod.blocks.experts import own
from swrec_prod.blocks.levels import AllPathsLevel, OwnPathLevel, Scope
from swrec_prod.layers.composed import OwnWeights
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Dims, Inputs
from swrec_prod.layers.options import GateNorm, Norm, Rate, Width, Widths
from swrec_prod.layers.scenario import ScenarioMLP


class PLE(ScenarioModel):
    """levels: how many. num_specific: experts of each scenario in a level, M. num_shared: experts of all, N. expert:
    layer widths of each expert in every level, all with a ReLU. tower: hidden widths of each scenario's tower. norm,
    dropout: of the experts; tower_norm: of the towers; gate_norm: of the logits of G_s in levels where a row follows
    its own path. "batch" sees the rows of a scenario's own expert, tower or gate only.

    shared_gate_scope: which experts v' is mixed from; without effect for one level. The paper is about tasks, all of
    which every row has, but a row has one scenario. So the default is "own", the experts of the row's scenario and the
    shared ones; "shared_only" are the latter; "all" is the paper's: each row follows the paths of all scenarios up to
    the last level, so that its cost grows with S (and "batch" sees all rows there). The paper's gates have no bias;
    ours have one.

    own_weights: of the scenarios' experts where a row follows its own path, "full", or "rank_one": scenarios share each
    layer's matrix and have factors of its inputs and outputs, which is the fast choice for hundreds of scenarios.
    """

    def __init__(
        self,
        dims: Dims,
        *,
        levels: Width = 1,
        num_specific: Width = 2,
        num_shared: Width = 1,
        expert: Widths = (64,),
        tower: Widths = (8,),
        shared_gate_scope: Scope = "own",
        own_weights: OwnWeights = "full",
        norm: Norm = "none",
        tower_norm: Norm = "none",
        gate_norm: GateNorm = "none",
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        S, lower = dims.num_scenarios, levels - 1
        d_ins = [dims.x, *expert[-1:] * lower]
        wide = lower if shared_gate_scope == "all" else 0
        scopes: list[Scope | None] = [shared_gate_scope] * (lower - wide) + [None]
        self.wide = nn.ModuleList(
            AllPathsLevel(S, num_specific, num_shared, d_ins[i], expert, norm, dropout) for i in range(wide)
        )
        self.levels = nn.ModuleList(
            OwnPathLevel(S, num_specific, num_shared, d_in, expert, norm, dropout, gate_norm, scope, own_weights)
            for d_in, scope in zip(d_ins[wide:], scopes, strict=True)
        )
        self.tower = ScenarioMLP(S, expert[-1], tower, dims.num_tasks, tower_norm)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, T]."""
        u, v_BH = inputs.x_BD, inputs.x_BD
        for level in self.wide:
            u, v_BH = level(u, v_BH)
        if len(self.wide) > 0:
            u = own(u, inputs.route.scenario_B)
        for level in self.levels:
            u, v_BH = level(u, v_BH, inputs.route)
        return self.tower(u, inputs.route)
