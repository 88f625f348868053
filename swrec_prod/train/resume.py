"""How a run begins: from nothing, or where its newest whole checkpoint says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swrec_prod import checkpoint
from swrec_prod.config import RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.run_dir import RunDir
from swrec_prod.train.data_seen import check_unchanged, data_seen
from swrec_prod.train.distributed import Ranks
from swrec_prod.train.folder import changes
from swrec_prod.train.loop import FitState


@dataclass(frozen=True)
class Beginning:
    """path: the checkpoint that the run goes on from, None where it begins. damaged: newer ones, which cannot be used.

    rows_a_step: of all ranks together. random: this rank's draws, where it goes on between two validations with as
    many ranks as before. changed: keys of the configuration that are not what they were, with both values.
    """

    rows_a_step: int
    path: Path | None = None
    state: FitState = field(default_factory=FitState)
    random: str | None = None
    damaged: tuple[Path, ...] = ()
    changed: tuple[str, ...] = ()

    @classmethod
    def anew(cls, config: RunConfig, ranks: Ranks) -> Beginning:
        """From nothing."""
        return cls(config.train.batch_size * ranks.world_size)


def beginning(
    folder: RunDir, config: RunConfig, catalog: Catalog, ranks: Ranks, say: Callable[[str], None]
) -> Beginning:
    """Where the run in a folder goes on; every rank calls this, nothing is written.

    say: told in a line each what is damaged, what cannot be verified, and what is not as it was.
    Raises CheckpointError when no checkpoint is whole, DataError when the days of training or validation have changed.
    """
    anew = Beginning.anew(config, ranks)
    path, damaged = checkpoint.find_whole(folder.checkpoints, say, ranks=True)
    if path is None:
        return anew
    saved = checkpoint.read_state(path, catalog)
    check_unchanged(saved.get("data", {}), data_seen(catalog, config.data), str(catalog.root))
    before = folder.config()
    changed = tuple(changes(before, config))
    as_before = before.train.batch_size == config.train.batch_size
    rows = int(saved.get("rows_a_step", anew.rows_a_step)) if as_before else anew.rows_a_step
    if rows != anew.rows_a_step:
        say(f"{rows:,} rows a step, as before: {rows / ranks.world_size:,.0f} on each of {ranks.world_size} rank(s)")
    for change in changed:
        say(f"changed since: {change}")
    return Beginning(rows, path, FitState(**saved["fit"]), _own(saved, ranks), tuple(damaged), changed)


def _own(saved: dict[str, Any], ranks: Ranks) -> str | None:
    """This rank's draws; other ranks than before begin theirs anew at the step."""
    random = saved.get("random") or []
    return random[ranks.rank] if len(random) == ranks.world_size else None
