"""state.json: what a checkpoint holds beside the tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from swrec_prod.data.catalog import Catalog
from swrec_prod.errors import CheckpointError

STATE_FILE = "state.json"
CHECKED = "checksums"  # the key that says that checksums.txt belongs to the checkpoint


def read_state(path: Path, catalog: Catalog | None = None) -> dict[str, Any]:
    """The state that was saved beside the tensors.

    Raises CheckpointError when the checkpoint is not there or not whole, or when `catalog` has other vocabularies than
    the data that it was trained on: its rows of the tables would stand for other values.
    """
    try:
        state = json.loads((path / STATE_FILE).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path}: no checkpoint here (expected {STATE_FILE})") from None
    except (ValueError, OSError) as failure:  # not UTF-8, not JSON, or the disk gives it no more
        remedy = "copy it again, or train again with --overwrite"
        raise CheckpointError(f"{path / STATE_FILE}: damaged: {failure}; {remedy}") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path / STATE_FILE}: damaged: {type(state).__name__} instead of a mapping")
    trained_on = str(state.get("fingerprint"))
    if catalog is not None and trained_on != catalog.fingerprint:
        prints = f"fingerprint {trained_on[:12]}, now {catalog.fingerprint[:12]}"
        raise CheckpointError(
            f"{path}: trained before {catalog.root} was prepared otherwise ({prints}); "
            "train again, or prepare as before"
        )
    return state
