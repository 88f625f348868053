"""Checkpoints: RUN_DIR/checkpoints/step-NNNNNNNN/, written by all ranks at once and readable at any number of ranks.

    *.distcp, .metadata   the tensors (torch.distributed.checkpoint)
    state.json            where the reader was, what was best so far, what the data were, the sharding plan
    checksums.txt         size and CRC-32 of every other file; written last

A checkpoint is written aside, brought to the disk and committed by rename, so a folder named step-* is whole unless a
disk or a copy damages it later; then checksums.txt says so.
"""

from swrec_prod.checkpoint.choosing import find_whole, latest, set_aside
from swrec_prod.checkpoint.reading import load_weights, restore, restore_weights
from swrec_prod.checkpoint.retention import keep_only, prune
from swrec_prod.checkpoint.run import best, config_of, load_run
from swrec_prod.checkpoint.saver import Saver
from swrec_prod.checkpoint.snapshot import size_of
from swrec_prod.checkpoint.state import STATE_FILE, read_state
from swrec_prod.checkpoint.writing import check_writable, content_of, save

__all__ = [
    "STATE_FILE",
    "Saver",
    "best",
    "check_writable",
    "config_of",
    "content_of",
    "find_whole",
    "keep_only",
    "latest",
    "load_run",
    "load_weights",
    "prune",
    "read_state",
    "restore",
    "restore_weights",
    "save",
    "set_aside",
    "size_of",
]
