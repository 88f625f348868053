"""The reference that training is measured against: SharedBottom by hand, over fbgemm's tables, with all rows in memory.

No framework, no files, no checkpoints: what somebody would write who needs this one model once. It is given every
advantage that is simple to take: one fused call for all tables, row-wise Adagrad in backward, fused Adam, towers as one
matrix.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice,
    OptimType,
    SplitTableBatchedEmbeddingBagsCodegen,
)
from torch import Tensor, nn

IDS = ("user_id", "movie_id", "gender", "occupation", "zip", "main_genre")
DIM = 16


class Rows:
    """Training rows of a prepared folder as tensors: ids [N, 6], age [N, 1], scenario [N], label [N]."""

    def __init__(self, folder: Path) -> None:
        names = [*IDS, "age", "scenario", "label_click", "split"]
        files = sorted(folder.glob("day=*/*.parquet"))
        table = pa.concat_tables([pq.ParquetFile(file).read(columns=names) for file in files])
        table = table.filter(pc.equal(table["split"].cast(pa.string()), "train"))
        self.ids = torch.from_numpy(np.stack([table[name].to_numpy() for name in IDS], 1).astype(np.int64))
        self.age = torch.from_numpy(table["age"].to_numpy().astype(np.float32))[:, None]
        self.scenario = torch.from_numpy(table["scenario"].to_numpy().astype(np.int64))
        self.label = torch.from_numpy(table["label_click"].to_numpy().astype(np.float32))
        self.heights = [int(column.max()) + 1 for column in self.ids.T]


class Network(nn.Module):
    """97 -> 128 (batch norm, ReLU, dropout) -> 8 -> 1 for each of 3 scenarios;
    all towers on all rows, then the row's own.
    """

    def __init__(self, dropout: float, scenarios: int = 3) -> None:
        super().__init__()
        self.bottom = nn.Sequential(
            nn.Linear(len(IDS) * DIM + 1, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(dropout)
        )
        self.tower = nn.Linear(128, 8 * scenarios)
        self.head = nn.Parameter(torch.randn(scenarios, 8) / 8**0.5)
        self.bias = nn.Parameter(torch.zeros(scenarios))

    def forward(self, x: Tensor, scenario: Tensor) -> Tensor:
        """Logits [B] of rows x [B, 97] in scenarios [B]."""
        towers = F.relu(self.tower(self.bottom(x))).view(len(x), -1, 8)
        return ((towers * self.head).sum(2) + self.bias).gather(1, scenario[:, None]).squeeze(1)


def rows_per_second(folder: Path, batch_size: int, dropout: float, epochs: int = 1, warm_up: int = 20) -> float:
    """Trained rows a second over `epochs` whole epochs, after some steps of warm-up."""
    rows = Rows(folder)
    torch.manual_seed(1)
    tables = SplitTableBatchedEmbeddingBagsCodegen(
        [(height, DIM, EmbeddingLocation.HOST, ComputeDevice.CPU) for height in rows.heights],
        optimizer=OptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=0.1,
    )
    for weight in tables.split_embedding_weights():
        nn.init.normal_(weight, std=0.01)
    network = Network(dropout)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def step(picked: Tensor) -> None:
        ids = rows.ids[picked].t().reshape(-1)
        embedded = tables(ids, torch.arange(len(ids) + 1))
        logits = network(torch.cat([embedded, rows.age[picked]], 1), rows.scenario[picked])
        loss = F.binary_cross_entropy_with_logits(logits, rows.label[picked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for picked in torch.randperm(len(rows.label)).split(batch_size)[:warm_up]:
        step(picked)
    started = time.perf_counter()
    for _ in range(epochs):
        for picked in torch.randperm(len(rows.label)).split(batch_size):
            step(picked)
    return epochs * len(rows.label) / (time.perf_counter() - started)
