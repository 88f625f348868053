"""A package in memory: its encoders and its three programs, and the golden rows that they must reproduce.

Server and export use this one way of loading and calling the programs.

Shapes: B rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import fbgemm_gpu  # noqa: F401  registers the table operators that sparse.pt calls
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from swrec_prod.blocks import debias
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import Column, Packed, Ragged, pack
from swrec_prod.encoding.sequences import RawLists, encode_sequence, raw_names
from swrec_prod.errors import DataError, PackageError, SchemaError
from swrec_prod.export.package import FORMAT, PROGRAMS, Manifest, verify_package
from swrec_prod.schema.layout import Layout

REPLAY_BOUND = 1e-4  # wider than at export: another processor may add in another order
EXPECTED = ("expected.logit", "expected.interest_logit", "expected.scenario_logit")


class Logits(NamedTuple):
    """logit_BT: of the label (y_uis); interest_BT: y_m; scenario_BT: y_s, [B, 0] for a model without causal split."""

    logit_BT: Tensor
    interest_BT: Tensor
    scenario_BT: Tensor

    def ranking_score(self, c: float, after: Sequence[int]) -> Tensor:
        """What to rank by, [B, T], as blocks.debias.ranking_score defines it. after: of the package's layout."""
        return debias.ranking_score(debias.Scores(*self), c, after)


@dataclass(frozen=True)
class Programs:
    """sparse, dense and dense_one of a package.

    Call them in inference mode only: tables cache tensors at the first call. format: the package's; programs of format
    1 take one sequence of bare items, each array by itself.
    """

    modules: Mapping[str, torch.nn.Module]
    format: int = FORMAT

    def mixed(self, packed: Packed) -> Logits:
        """Rows of any scenarios, in any order."""
        return self._run("dense.pt", packed, torch.from_numpy(packed.scenario_B))

    def one(self, packed: Packed, scenario: int) -> Logits:
        """Rows of one scenario, given by its index; packed.scenario_B is not read."""
        return self._run("dense_one.pt", packed, torch.tensor([scenario]))

    def _run(self, name: str, packed: Packed, scenario: Tensor) -> Logits:
        with torch.inference_mode():
            arrays = [torch.from_numpy(array) for array in packed[:-1]]
            if self.format == 1:
                embedded = self.modules["sparse.pt"](*arrays[:5])
                return Logits(*self.modules[name](*embedded, arrays[-1], scenario))
            return Logits(*self.modules[name](self.modules["sparse.pt"](arrays), arrays[-1], scenario))


@dataclass(frozen=True)
class Package:
    """A verified and loaded package. golden: its rows, with the columns EXPECTED."""

    path: Path
    manifest: Manifest
    encoders: Encoders
    layout: Layout
    programs: Programs
    golden: pa.Table

    @classmethod
    def load(cls, path: Path) -> Package:
        """Verify and load the package in `path`. Raises PackageError naming the file and what is wrong."""
        manifest = verify_package(path)
        encoders = _load_encoders(path)
        layout = Layout.of(encoders.schema, history=manifest.history, first=manifest.sequence)
        programs = Programs({name: _load_program(path / name) for name in PROGRAMS}, manifest.format)
        return cls(path, manifest, encoders, layout, programs, pq.read_table(path / "golden.parquet"))

    def sample(self, rows: int) -> Packed:
        """Golden rows, repeated up to `rows`, as programs take them."""
        columns, scenario_B = encode_rows(
            self.encoders, self.layout, self.golden.take(np.resize(np.arange(len(self.golden)), rows))
        )
        return pack(self.layout, columns, scenario_B)

    def replay(self) -> float:
        """The largest difference between the golden rows' expected logits and those of the loaded programs.

        Raises PackageError when it is above REPLAY_BOUND: this machine or these libraries compute something else.
        """
        columns, scenario_N = encode_rows(self.encoders, self.layout, self.golden)
        expected = _expected(self.golden)
        mixed = self.programs.mixed(pack(self.layout, columns, scenario_N))
        differences = [("dense.pt", difference(mixed, expected))]
        for scenario, rows in by_scenario(scenario_N):
            one = self.programs.one(pack(self.layout, take(columns, rows), scenario_N[rows]), scenario)
            differences.append(("dense_one.pt", difference(one, [array[rows] for array in expected])))
        for name, far in differences:
            if not far <= REPLAY_BOUND:
                hint = "export again with the libraries that are installed here"
                raise PackageError(
                    f"{self.path / name}: golden rows differ by {far:.2g}, allowed are {REPLAY_BOUND:g}; {hint}"
                )
        return max(far for _, far in differences)


def encode_rows(encoders: Encoders, layout: Layout, table: pa.Table) -> tuple[dict[str, Column], np.ndarray]:
    """Raw rows, as in requests.parquet, as encoded columns and int64 [N] scenario indices."""
    raw = encoders.with_derived({name: table[name] for name in table.column_names})
    columns: dict[str, Column] = {}
    for feature in (*layout.pooled, *layout.looked_up, *layout.dense):
        columns |= encoders.columns_of(feature.name, raw)
    moment_N = table["time"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    for sequence in layout.sequences:
        lists = {name: RawLists.of(table[name], name) for name in raw_names(sequence)}
        columns |= encode_sequence(encoders, sequence, lists, moment_N)
    return columns, encoders.encode_scenario(table["scenario"])


def take(columns: Mapping[str, Column], rows: np.ndarray) -> dict[str, Column]:
    """The given rows of encoded columns."""
    return {name: column.take(rows) if isinstance(column, Ragged) else column[rows] for name, column in columns.items()}


def by_scenario(scenario_N: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(index, its row numbers) for every scenario that occurs."""
    for scenario in np.unique(scenario_N):
        yield int(scenario), np.flatnonzero(scenario_N == scenario)


def difference(logits: Logits, expected: list[np.ndarray]) -> float:
    """The largest |a - b| / max(1, |b|); NaN when a value is not finite."""
    worst = 0.0
    for scored, wanted in zip(logits, expected, strict=True):
        far = np.abs(scored.numpy() - wanted) / np.maximum(1.0, np.abs(wanted))
        if not np.isfinite(far).all():
            return float("nan")
        worst = max(worst, float(far.max(initial=0.0)))
    return worst


def with_expected(table: pa.Table, logits: Logits) -> pa.Table:
    """`table` with the columns EXPECTED: one list of T numbers a row, empty where the model has none."""
    for name, values in zip(EXPECTED, logits, strict=True):
        table = table.append_column(name, pa.array(values.tolist(), pa.list_(pa.float32())))
    return table


def _expected(golden: pa.Table) -> list[np.ndarray]:
    return [np.array(golden[name].to_pylist(), np.float32).reshape(len(golden), -1) for name in EXPECTED]


def _load_encoders(path: Path) -> Encoders:
    try:
        return Encoders.load(path)
    except (DataError, SchemaError) as failure:
        raise PackageError(f"{failure}; export the package again") from None


def _load_program(path: Path) -> torch.nn.Module:
    try:
        return torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as failure:
        first = str(failure).strip().partition("\n")[0]
        raise PackageError(f"{path}: torch {torch.__version__} cannot load it: {first}") from None
