"""Raw sources -> the standard table. A new one is a file here, a line in DATASETS and a file in configs/data."""

from __future__ import annotations

from swrec_prod.datasets.aliccp import ALI_CCP
from swrec_prod.datasets.amazon import AMAZON
from swrec_prod.datasets.cloud_theme import CLOUD_THEME
from swrec_prod.datasets.douban import DOUBAN
from swrec_prod.datasets.exposures import EXPOSURES
from swrec_prod.datasets.kuairand import KUAIRAND_1K, KUAIRAND_PURE
from swrec_prod.datasets.mind import MIND
from swrec_prod.datasets.movielens import MOVIELENS_1M
from swrec_prod.datasets.open_bandit import OPEN_BANDIT
from swrec_prod.logs.parquet_log import PARQUET
from swrec_prod.raw.source import Dataset

DATASETS: dict[str, Dataset] = {
    "movielens-1m": MOVIELENS_1M,
    "kuairand-pure": KUAIRAND_PURE,
    "kuairand-1k": KUAIRAND_1K,
    "ali-ccp": ALI_CCP,
    "amazon": AMAZON,
    "douban": DOUBAN,
    "mind": MIND,
    "cloud-theme": CLOUD_THEME,
    "open-bandit": OPEN_BANDIT,
    "parquet": PARQUET,
    "exposures": EXPOSURES,
}
