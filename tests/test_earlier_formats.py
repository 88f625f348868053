"""Packages of formats 1 and 2 are opened and score: programs of theirs, written here, against numpy."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tiny_world import catalog_of, make_config, make_ranker, prepare
from torch import Tensor, nn

from swrec_prod.encoding.pack import Column, Ragged, take
from swrec_prod.export.loaded import EXPECTED, Package, encode_rows, request_of, with_expected
from swrec_prod.export.logits import Logits
from swrec_prod.export.run import export_package
from swrec_prod.serving.scoring.predictor import Predictor

pytestmark = pytest.mark.slow  # compiles programs


class Sparse(nn.Module):
    """[B, 1 + behaviours' sum]: the sum of a row's ids, and that of the items of its history."""

    def forward(self, arrays: list[Tensor]) -> list[Tensor]:
        ids, lengths, items, lengths_of_history = arrays[0], arrays[1], arrays[2], arrays[3]
        rows = arrays[8].shape[0]
        owner = torch.repeat_interleave(torch.arange(lengths.numel()) % rows, lengths)
        of_ids = torch.zeros(rows, dtype=torch.int64).index_add(0, owner, ids)
        owner = torch.repeat_interleave(torch.arange(lengths_of_history.numel()) % rows, lengths_of_history)
        return [torch.stack([of_ids, torch.zeros_like(of_ids).index_add(0, owner, items)], 1)]


class SparseOfFormat1(nn.Module):
    """The same, each array by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.sparse = Sparse()

    def forward(self, ids: Tensor, lengths: Tensor, items: Tensor, of_history: Tensor, where: Tensor) -> list[Tensor]:
        rows = of_history.numel() // 2  # the candidate and the history
        none = torch.zeros(rows, 0)
        return self.sparse([ids, lengths, items, of_history, where, where, none, none, none])


class Dense(nn.Module):
    def forward(self, embedded: list[Tensor], dense_BF: Tensor, scenario: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return logits(embedded[0], dense_BF, scenario)


class DenseOfFormat1(nn.Module):
    def forward(self, embedded_B2: Tensor, dense_BF: Tensor, scenario: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return logits(embedded_B2, dense_BF, scenario)


def logits(embedded_B2: Tensor, dense_BF: Tensor, scenario: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    weighed = embedded_B2[:, :1] * 0.01 + embedded_B2[:, 1:] * 0.001 + dense_BF.sum(1, keepdim=True)
    logit_B2 = torch.cat([weighed, -weighed], 1) + scenario.unsqueeze(1)
    return logit_B2, logit_B2 * 2, logit_B2 * 3


def expected(columns: dict[str, Column], scenario: np.ndarray) -> list[np.ndarray]:
    """What the programs say of rows, in numpy."""

    def sums(name: str) -> np.ndarray:
        column = columns[name]
        if not isinstance(column, Ragged):
            return column.astype(np.int64)
        return np.array([column.values[a:b].sum() for a, b in zip(column.offsets, column.offsets[1:], strict=False)])

    ids = sum(sums(name) for name in ("user_id", "age", "invited_by", "tags") if name in columns)
    of_history = sums("item_id") + sums("history.item")
    weighed = ids * 0.01 + of_history * 0.001 + columns["hour"] + columns["price"]
    logit = np.stack([weighed, -weighed], 1) + scenario[:, None]
    return [(logit * k).astype(np.float32) for k in (1, 2, 3)]


def as_format(number: int, package: Path) -> Path:
    """Put programs of that format into a package."""
    golden = Package.load(package).golden.drop_columns(list(EXPECTED))
    loaded = Package.load(package)
    wanted = expected(*encode_rows(loaded.encoders, loaded.layout, golden))
    pq.write_table(with_expected(golden, Logits(*map(torch.from_numpy, wanted))), package / "golden.parquet")
    sparse, dense = (SparseOfFormat1(), DenseOfFormat1()) if number == 1 else (Sparse(), Dense())
    for name, module in {"sparse.pt": sparse, "dense.pt": dense, "dense_one.pt": dense}.items():
        torch.jit.save(torch.jit.script(module), str(package / name))
    (package / "score.pt").unlink()
    manifest = json.loads((package / "manifest.json").read_text()) | {"format": number}
    for key in ("strength_range", "calibration"):
        del manifest[key]
    for key in ("user_once", "user_once_bound"):
        del manifest["parity"][key]
    files = [file for file in package.rglob("*") if file.is_file() and file.name not in ("manifest.json", "READY")]
    manifest["files"] = {
        file.relative_to(package).as_posix(): {
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "bytes": file.stat().st_size,
        }
        for file in files
    }
    (package / "manifest.json").write_text(json.dumps(manifest))
    (package / "READY").write_text(hashlib.sha256((package / "manifest.json").read_bytes()).hexdigest())
    return package


@pytest.mark.parametrize("number", [1, 2])
def test_a_package_of_an_earlier_format_scores_rows_and_requests(number: int, tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    prepare(prepared)
    ranker, config = make_ranker("mscan", prepared), make_config("mscan", prepared)
    exported = export_package(ranker, config, catalog_of(prepared), tmp_path / "m", "none")
    package = Package.load(as_format(number, exported))
    assert package.replay() <= 1e-5
    columns, _ = encode_rows(package.encoders, package.layout, package.golden)
    candidates = np.array([3, 1, 4, 1])
    found = package.programs.request(request_of(package.layout, columns, 7, candidates), 2)
    beside = take({name: columns[name] for name in package.layout.user_half.columns}, np.full(4, 7))
    for ours, theirs in zip(found, expected(take(columns, candidates) | beside, np.full(4, 2)), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5)
    assert Predictor.load(package.path).milliseconds(100) > 0
