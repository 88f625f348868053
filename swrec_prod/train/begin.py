"""train.begin: the best weights of another run, where they stand for the same as in the run that begins with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from swrec_prod import checkpoint
from swrec_prod.config import RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.errors import CheckpointError, ConfigError
from swrec_prod.ranker import with_debias
from swrec_prod.run_dir import MIX, SCENARIOS, RunDir
from swrec_prod.schema import FeatureSchema
from swrec_prod.train.folder import difference


def load_begin(run_dir: Path, config: RunConfig, catalog: Catalog, model: nn.Module) -> None:
    """Load the best weights of `run_dir` into the sharded model of `config`.

    Raises ConfigError when `run_dir` is not one run, or trained another model, on other features or with another form
    of bias eliminator: tensors of the same shapes may mean something else. CheckpointError when it has no checkpoint
    yet, or one of other vocabularies.
    """
    theirs = _run_in(run_dir)
    changed = difference(_meaning(theirs, catalog.schema), _meaning(config, catalog.schema))
    if changed:
        raise ConfigError(f"train.begin: {run_dir} has another {changed}; its weights would mean something else here")
    checkpoint.restore_weights(checkpoint.best(run_dir, catalog), model)


def _run_in(run_dir: Path) -> RunConfig:
    """The configuration of the one run that `run_dir` is. Raises ConfigError when it is none, or several."""
    try:
        config = with_debias(RunDir(run_dir).config())
    except CheckpointError as failure:
        raise ConfigError(f"train.begin: {failure}") from None
    if config.strategy.name != "mix":
        mix = f"{run_dir / MIX}, or " if config.strategy.name == "finetune" else ""
        where = f"train.begin: {run_dir} has a model for every scenario"
        raise ConfigError(f"{where}; name {mix}one of {run_dir / SCENARIOS}/*")
    return config


def _meaning(config: RunConfig, schema: FeatureSchema) -> dict[str, Any]:
    """What decides, beside the data's vocabularies, which number each weight is multiplied with."""
    selected = schema if config.data.features is None else schema.select(config.data.features)
    return {
        "model": config.model.model_dump(mode="json"),
        "data": {"features": [feature.name for feature in selected.features]},
        "debias": {"form": config.debias.form} if config.debias else None,
    }
