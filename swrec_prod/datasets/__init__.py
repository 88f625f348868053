"""Raw sources -> the standard table. A new source is one file here, one line in DATASETS and one file in configs/data."""

from __future__ import annotations

from swrec_prod.datasets.movielens import MOVIELENS_1M
from swrec_prod.datasets.source import Dataset

DATASETS: dict[str, Dataset] = {
    "movielens-1m": MOVIELENS_1M,
}
