"""Ranker: tables, a scenario model on top, and the loss; what is trained, replayed and exported as one thing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swrec_prod.blocks.debias import ScenarioBiasEliminator, Scorer, Scores
from swrec_prod.config import DebiasConfig, RunConfig
from swrec_prod.data.batch import Batch
from swrec_prod.errors import ConfigError
from swrec_prod.layers.input_layer import InputLayer, Summary
from swrec_prod.layers.inputs import Dims, Field, make_route
from swrec_prod.losses import bce, debiased_loss
from swrec_prod.models import build, find
from swrec_prod.models.compat import resolve
from swrec_prod.schema import Feature, FeatureSchema
from swrec_prod.schema.layout import Layout
from swrec_prod.sparse import SparseArch


class Ranker(nn.Module):
    """forward(batch) -> (loss, scores). alpha: weight of the scenario loss (M-scan, eq. 11); None without eliminator.

    embedding_dropout: share of the embedded numbers of x that are zero in training, drawn anew for every row;
    behaviours and the target item that they are compared with stay.
    """

    def __init__(
        self,
        sparse: SparseArch,
        inputs: InputLayer,
        scorer: Scorer,
        alpha: float | None,
        embedding_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.sparse = sparse
        self.inputs = inputs
        self.scorer = scorer
        self.alpha = alpha
        self.embedding_dropout = embedding_dropout
        self.num_scenarios = sparse.layout.num_scenarios

    def forward(self, batch: Batch) -> tuple[Tensor, Scores]:
        """The mean loss over the batch's rows (0-d) and their scores ([B, T] each)."""
        embedded_BD, behaviours = self.sparse(batch)
        if self.embedding_dropout > 0:
            embedded_BD = F.dropout(embedded_BD, self.embedding_dropout, self.training)
        route = make_route(batch.scenario_B, self.num_scenarios)
        inputs = self.inputs(embedded_BD, behaviours, batch.dense_BF, route)
        scores, auxiliary = self.scorer.forward_with_losses(inputs)
        if self.alpha is None:
            loss = bce(scores, batch.labels_BT, batch.weight_B)
        else:
            # both terms are against the label
            of_labels = scores._replace(scenario_BT=self.scorer.chain(scores.scenario_BT))
            loss = debiased_loss(of_labels, batch.labels_BT, batch.weight_B, self.alpha)
        for weighted in auxiliary.values():
            loss = loss + weighted
        return loss, scores


@dataclass(frozen=True)
class ResolvedRun:
    """A configuration with nothing left open, for the data that it reads. schema: of the prepared data, all features;
    layout: of those that the model reads; config.debias: None, or the eliminator's options.
    """

    config: RunConfig
    schema: FeatureSchema
    layout: Layout

    @property
    def summary(self) -> Summary:
        """What becomes of the sequences behind the first one."""
        return self.config.data.further_sequences


def resolve_run(schema: FeatureSchema, config: RunConfig) -> ResolvedRun:
    """Decide what `config` leaves open.

    Raises ConfigError for an unknown model or feature, or a c that does not fit the data; SchemaError when the model
    reads behaviours and the data have none.
    """
    config = with_debias(config)
    if config.debias:
        _check(config.debias, schema)
    return ResolvedRun(config, schema, _layout(schema, config))


def with_debias(config: RunConfig) -> RunConfig:
    """`config` with its debiasing decided: models that are made for it (M-scan) have it unless the run file says
    `debias: null`. Raises ConfigError for an unknown model.
    """
    if "debias" in config.model_fields_set:
        return config
    return config.model_copy(update={"debias": DebiasConfig() if find(config.model.name).debiased else None})


def _layout(schema: FeatureSchema, config: RunConfig) -> Layout:
    """The layout that the configured model reads."""
    model = find(config.model.name)
    selected = schema if config.data.features is None else schema.select(config.data.features)
    history = model.reads_history
    if history == "optional":
        options = resolve(config.model.name, config.model.options)
        history = bool(selected.of_kind("sequence")) and options.get("use_history", True) is not False
    return Layout.of(selected, history=history, first=config.data.history)


def dims_of(run: ResolvedRun) -> Dims:
    """The widths that a run's model is built from."""
    layout = run.layout
    fields = tuple(_side_by_side(slices_of(layout, run.summary)))
    ids = [f for f in (*layout.pooled, *layout.looked_up) if f.kind == "id"]
    return Dims(
        x=sum(field.width for field in fields),
        num_scenarios=layout.num_scenarios,
        num_tasks=len(layout.tasks),
        item=layout.history.width if layout.history else 0,
        fields=fields,
        user=next((f.name for f in ids if f.source == run.schema.user), None),
        target=layout.target.name if layout.target else next((f.name for f in ids if f.side == "item"), None),
    )


def slices_of(layout: Layout, summary: Summary) -> Iterator[tuple[str, int, Feature]]:
    """Name and width of every slice of x, in the order of InputLayer, and the feature that it is of."""
    yield from ((f.name, f.dim, f) for f in (*layout.pooled, *layout.looked_up))
    plain = layout.numbers[: len(layout.numbers) - len(layout.embedded)]
    yield from ((number.column, number.width, number.feature) for number in plain)
    yield from ((f.name, f.dim, f) for f in layout.embedded)
    if summary != "none":
        yield from ((sequence.name, sequence.width, sequence.feature) for sequence in layout.sequences[1:])


def _side_by_side(slices: Iterable[tuple[str, int, Feature]]) -> Iterator[Field]:
    start = 0
    for name, width, feature in slices:
        yield Field(name, start, width, feature.side, feature.kind)
        start += width


def build_ranker(
    run: ResolvedRun, device: torch.device | str = "cpu", *, tables_on: torch.device | str | None = None
) -> Ranker:
    """An untrained, unsharded ranker; the same seed gives the same weights whatever the number of ranks.

    tables_on: where the tables are, `device` if left out; `meta` for nowhere, until they are sharded.
    """
    config, layout, debias = run.config, run.layout, run.config.debias
    torch.manual_seed(config.train.seed)
    dims = dims_of(run)
    model = build(config.model.name, config.model.options, dims)
    eliminator = ScenarioBiasEliminator(dims.num_scenarios, dims.num_tasks) if debias else None
    inputs = input_layer(layout, run.summary)
    std, seed = config.train.embedding_std, config.train.seed
    sparse = SparseArch(layout, std=std, seed=seed, device=device if tables_on is None else tables_on)
    scorer = Scorer(model, eliminator, layout.after, apart=debias is not None and debias.form == "apart")
    alpha = debias.alpha if debias else None
    return Ranker(sparse, inputs.to(device), scorer.to(device), alpha, config.train.embedding_dropout)


def input_layer(layout: Layout, summary: Summary) -> InputLayer:
    """The input layer of a layout."""
    plain = sum(number.width for number in layout.numbers) - len(layout.embedded)
    further = [sequence.width for sequence in layout.sequences[1:]]
    return InputLayer(plain, [f.dim for f in layout.embedded], further, summary)


def _check(debias: DebiasConfig, schema: FeatureSchema) -> None:
    """Raises ConfigError for a c that does not fit the data: before training, not after."""
    debias.strengths(schema.scenario.names)
    if debias.to_fit and len(schema.labels) > 1:
        labels = ", ".join(schema.tasks)
        raise ConfigError(f"debias.c: {debias.c} finds a c for one label, and the data have {labels}; give numbers")
