"""The studies by name: what each asks, and what it varies where nothing else is said.

A study is a grid over keys; another question is another line here, or `grid` with keys of one's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from swrec_prod.models import MODELS


class Study(NamedTuple):
    """axes: key -> the values that are tried, of run files, `rows.*` and `simulate.*`. along: the key whose values are
    compared with its first one, while those of other keys make groups; None: all are compared with the first.
    """

    question: str
    axes: Mapping[str, tuple[Any, ...]]
    along: str | None = None
    seeds: tuple[int, ...] = (1, 2)


STUDIES: dict[str, Study] = {
    "grid": Study("What do these keys change?", {}),
    "scenarios": Study(
        "Into how many scenarios should the same rows be divided? The busiest stay as they are, the others are one.",
        {
            "model.name": ("shared_bottom", "mmoe", "star"),
            "rows.keep_given": (True,),
            "rows.scenarios": (7, 3, 4, 5, 6),
        },
        "rows.scenarios",
    ),
    "many_scenarios": Study(
        "Which models still gain when there are hundreds of scenarios? Each number is a log of its own.",
        {"simulate.scenarios": (3, 10, 30, 100, 355), "model.name": ("dnn", "shared_bottom", "mmoe", "star", "epnet")},
        "model.name",
    ),
    "sparsity": Study(
        "What does a scenario lose when it has fewer training rows, and how much do the others carry it?",
        {"model.name": ("dnn", "shared_bottom", "mmoe"), "rows.share": (1.0, 0.5, 0.25, 0.125, 0.0625)},
        "rows.share",
    ),
    "overlap": Study(
        "What is it worth that scenarios share users and items? Fewer and fewer are known to be the same.",
        {"rows.common_users": (1.0, 0.5, 0.0), "rows.common_items": (1.0, 0.5, 0.0)},
    ),
    "splits": Study(
        "Are the given scenarios better ones than those that data make by themselves?",
        {
            "model.name": ("shared_bottom", "mmoe"),
            "rows.keep_given": (True,),
            "rows.split": ("given", "one", "random", "cluster", "tree"),
        },
        "rows.split",
    ),
    "distance": Study(
        "By which distance should CSII tell what transfers between scenarios?",
        {"model.name": ("csii",), "model.distance": ("euclidean", "manhattan", "cosine")},
    ),
    "experts": Study(
        "How many experts does MMoE need?", {"model.name": ("mmoe",), "model.num_experts": (4, 1, 2, 8, 16)}
    ),
    "pooling": Study(
        "Does SFPNet's pooling of mean and spread beat the mean and the maximum of behaviours?",
        {"model.name": ("sfpnet",), "model.readout": ("din", "dap"), "model.dap_stat": ("std", "var", "none", "max")},
        "model.dap_stat",
    ),
    "depth": Study("How deep should SFPNet be?", {"model.name": ("sfpnet",), "model.blocks": (2, 1, 3, 4)}),
    "efficiency": Study(
        "What do models cost: training rows a second, parameters, memory?",
        {"model.name": ("dnn", *(name for name in MODELS if name != "dnn"))},
        seeds=(1,),
    ),
}
