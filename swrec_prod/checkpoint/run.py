"""The model of a RUN_DIR: which checkpoint it is, with which configuration and data."""

from __future__ import annotations

from pathlib import Path

from swrec_prod.checkpoint.choosing import latest
from swrec_prod.checkpoint.reading import load_weights
from swrec_prod.checkpoint.state import read_state
from swrec_prod.config import RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.manifest import MANIFEST, read_manifest
from swrec_prod.errors import CheckpointError, ConfigError, DataError
from swrec_prod.ranker import Ranker, build_ranker, resolve_run, with_debias
from swrec_prod.run_dir import GOES_ON, RunDir


def load_run(run_dir: Path, data: Path | None = None) -> tuple[Ranker, RunConfig, Catalog]:
    """The trained ranker of a RUN_DIR with its best weights, unsharded and in eval mode, its configuration and its
    data. data: as in `config_of`.

    Raises CheckpointError when `run_dir` holds no checkpoint, its data have been prepared otherwise since, or its c is
    still to be fitted; ConfigError when it holds a model for every scenario.
    """
    config = config_of(run_dir, data)
    if config.strategy.name != "mix":
        models = ", ".join(RunDir(run_dir).scenario_models()) or "none yet"
        many = f"strategy {config.strategy.name} has a model for every scenario"
        raise ConfigError(f"{run_dir}: {many}; name one in {run_dir}/scenarios: {models}")
    if config.debias and config.debias.to_fit:
        raise CheckpointError(f"{run_dir}: c is not fitted yet; {GOES_ON}")
    catalog = Catalog.open(config.data.path)
    ranker = build_ranker(resolve_run(catalog.schema, config))
    load_weights(best(run_dir, catalog), ranker)
    return ranker.eval(), config, catalog


def config_of(run_dir: Path, data: Path | None = None) -> RunConfig:
    """What was trained in a RUN_DIR, nothing left open (`with_debias`), data.path where the data are now.

    data: the folder where they are; left out, they are looked for (RunDir.data_folders), and of several folders the one
    with the run's vocabularies is taken. Raises CheckpointError when it is no run, DataError when its data are gone.
    """
    run = RunDir(run_dir)
    config, info = run.config(), run.info()
    folders = [data] if data is not None else list(run.data_folders())
    prepared = [folder for folder in folders if (folder / MANIFEST).is_file()]
    if not prepared:
        wanted = data or (Path(info.data.path) if info else folders[0])
        remedy = "bring it back, or say where it is with --data FOLDER"
        raise DataError(f"{run_dir}: its prepared data are not in {wanted} (no {MANIFEST}); {remedy}")
    same = (folder for folder in prepared if info and read_manifest(folder).fingerprint == info.data.fingerprint)
    path = next(same, prepared[0])
    return with_debias(config.model_copy(update={"data": config.data.model_copy(update={"path": str(path)})}))


def best(run_dir: Path, catalog: Catalog) -> Path:
    """The checkpoint of a RUN_DIR that validated best.

    Raises CheckpointError when there is none yet, or it was trained on data that were prepared otherwise than
    `catalog`.
    """
    newest = latest(RunDir(run_dir).checkpoints)
    if newest is None:
        raise CheckpointError(f"{run_dir}: no checkpoint yet; {GOES_ON}")
    return newest.with_name(f"step-{read_state(newest, catalog)['fit']['best_step']:08d}")
