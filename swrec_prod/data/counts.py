"""How many prepared rows every scenario has: what tells, before anything is trained,
which scenarios can have a model of their own.
"""

from __future__ import annotations

import numpy as np

from swrec_prod.config import DataConfig, SplitName
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.decode import Decoder
from swrec_prod.data.row_format import LABELS
from swrec_prod.schema.layout import Layout


def scenario_counts(
    catalog: Catalog, data: DataConfig, part: SplitName, *, weighed: bool = False
) -> dict[str, tuple[int, int]]:
    """Rows, and positives of the first task, of every scenario of the schema in a part;
    0 for those that `data` leaves out.

    weighed: of rows whose weight is above 0 alone, those that training learns from (scores are judged without weights).
    Files are read one after the other, without features. Raises DataError for a damaged one.
    """
    names = catalog.schema.scenario.names
    decoder = Decoder.of(catalog, Layout.of(catalog.schema.select(()), history=False), part, data)
    counts_2S = np.zeros((2, len(names)), np.int64)
    for file in catalog.files_of(data, part):
        rows = decoder.decode(decoder.whole_files([file])).rows
        if weighed and catalog.schema.weight:
            rows = rows[rows["weight"] > 0]
        for counts_S, weights in zip(counts_2S, (None, rows[LABELS][:, 0]), strict=True):
            counts_S += np.bincount(rows["scenario"], weights, minlength=len(names)).astype(np.int64)
    return {name: (int(rows), int(positives)) for name, rows, positives in zip(names, *counts_2S, strict=True)}
