"""A package in memory: its encoders and its programs, and the golden rows that they must reproduce.

Server and export use this one way of loading and calling the programs.

Shapes: B rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fbgemm_gpu  # noqa: F401  registers the table operators that programs call
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

import swrec_prod.operators.search_one_user  # noqa: F401  registers ours
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import Column, Packed, PackedRequest, pack, pack_halves, take
from swrec_prod.encoding.sequences import RawLists, encode_sequence, raw_names
from swrec_prod.encoding.unpack import unpack
from swrec_prod.errors import DataError, PackageError, SchemaError
from swrec_prod.export.earlier_formats import EarlierPrograms
from swrec_prod.export.logits import Logits, difference, in_calls, together
from swrec_prod.export.package import FORMAT, PROGRAMS, Manifest, verify_package
from swrec_prod.schema.layout import Layout

REPLAY_BOUND = 1e-4  # wider than at export: another processor may add in another order
EXPECTED = ("expected.logit", "expected.interest_logit", "expected.scenario_logit")


class Programs:
    """What a package says of rows. module: its score.pt."""

    def __init__(self, module: nn.Module, layout: Layout) -> None:
        self._module, self._layout = module, layout
        self._scenarios = torch.arange(layout.num_scenarios).split(1)

    def request(self, packed: PackedRequest, scenario: int) -> Logits:
        """Candidates of one scenario, given by its index; scenario_B of the arrays is not read."""
        with torch.inference_mode():
            return Logits(*self._module(*tensors_of(self._layout, packed), self._scenarios[scenario]))

    def mixed(self, packed: Packed) -> Logits:
        """Rows of any scenarios, in any order, each with its own user: a call for each scenario."""
        columns, order, scored = unpack(self._layout, packed), [], []
        for scenario, of_scenario in by_scenario(packed.scenario_B):
            for rows in in_calls(of_scenario):
                halves = pack_halves(self._layout, take(columns, rows), packed.scenario_B[rows], user_rows=len(rows))
                scored.append(self.request(halves, scenario))
                order.append(rows)
        return together(scored).take(np.argsort(np.concatenate(order)))


def tensors_of(layout: Layout, packed: PackedRequest) -> tuple[list[Tensor], list[Tensor]]:
    """What score.pt takes of the user and of the candidates. Nothing is copied."""
    user = [torch.from_numpy(getattr(packed.user, name)) for name in layout.user_half.arrays]
    return user, [torch.from_numpy(getattr(packed.items, name)) for name in layout.item_half.arrays]


@dataclass(frozen=True)
class Package:
    """A verified and loaded package. golden: its rows, with the columns EXPECTED."""

    path: Path
    manifest: Manifest
    encoders: Encoders
    layout: Layout
    programs: Programs | EarlierPrograms
    golden: pa.Table

    @classmethod
    def load(cls, path: Path, verified: Manifest | None = None) -> Package:
        """Verify and load the package in `path`. Raises PackageError naming the file and what is wrong.

        verified: what verify_package has said of it just now.
        """
        with unusable(path):
            manifest = verified or verify_package(path)
            encoders = _load_encoders(path)
            layout = Layout.of(encoders.schema, history=manifest.history, first=manifest.sequence)
            if layout.tasks != manifest.tasks:
                what = f"its tasks are {', '.join(manifest.tasks)}, but those of schema.yaml {', '.join(layout.tasks)}"
                raise PackageError(f"{path / 'manifest.json'}: {what}; export again")
            return cls(path, manifest, encoders, layout, _load_programs(path, manifest, layout), _golden(path))

    def sample(self, rows: int) -> PackedRequest:
        """A request of `rows` candidates: golden rows, repeated, for the user of them with most behaviours."""
        columns, scenario_N = encode_rows(self.encoders, self.layout, self.golden)
        lengths = [np.diff(columns[s.parts[0].name].offsets) for s in self.layout.sequences]  # type: ignore[union-attr]
        user = np.argmax(np.sum(lengths, axis=0)) if lengths else 0
        return request_of(self.layout, columns, int(user), np.resize(np.arange(len(scenario_N)), rows))

    def replay(self) -> float:
        """The largest difference between the golden rows' expected logits and those of the loaded programs, offline
        and, for the first row of each scenario, as a request.

        Raises PackageError when it is above REPLAY_BOUND: this machine or these libraries compute something else; and
        when there is a scenario without golden rows, or the program's outputs are not those that the manifest says.
        """
        columns, scenario_N = encode_rows(self.encoders, self.layout, self.golden)
        expected = _expected(self.golden)
        self._check_scenarios(scenario_N)
        scored = self.programs.mixed(pack(self.layout, columns, scenario_N))
        self._check_outputs(scored, expected)
        differences = [difference(scored, expected)]
        for scenario, rows in by_scenario(scenario_N):
            answer = self.programs.request(request_of(self.layout, columns, rows[0], rows), scenario)
            differences.append(difference(answer.take(np.zeros(1, np.int64)), [array[rows[:1]] for array in expected]))
        worst = float(np.max(differences))
        if not worst <= REPLAY_BOUND:
            hint = "export again with the libraries that are installed here"
            raise PackageError(f"{self.path}: golden rows differ by {worst:.2g}, allowed are {REPLAY_BOUND:g}; {hint}")
        return worst

    def _check_scenarios(self, scenario_N: np.ndarray) -> None:
        """Every scenario has golden rows. Those who wrote earlier formats took what there was."""
        names = self.encoders.schema.scenario.names
        missing = sorted(set(range(len(names))) - set(scenario_N.tolist()))
        if missing and self.manifest.format == FORMAT:
            what = f"no row of scenario {names[missing[0]]!r}, so nothing says whether it is scored right"
            raise PackageError(f"{self.path / 'golden.parquet'}: {what}; export again")

    def _check_outputs(self, scored: Logits, expected: Sequence[np.ndarray]) -> None:
        """Shapes: a column a task; without a causal split there is no scenario logit."""
        tasks, causal = len(self.manifest.tasks), self.manifest.causal
        wanted = [(len(self.golden), width) for width in (tasks, tasks, tasks * causal)]
        for source, arrays in (("its program", scored), ("golden.parquet", expected)):
            found = [tuple(array.shape) for array in arrays]
            if found != wanted:
                raise PackageError(
                    f"{self.path}: {source} has logits of shapes {found}, the manifest's are {wanted}; export again"
                )


@contextmanager
def unusable(path: Path) -> Iterator[None]:
    """Whatever goes wrong with a package within the block is a PackageError: files may hold anything."""
    try:
        yield
    except PackageError:
        raise
    except MemoryError:
        raise PackageError(f"{path}: there is no memory for it") from None
    except Exception as failure:
        first = (str(failure).strip().partition("\n")[0] or "no reason given")[:300]
        raise PackageError(
            f"{path}: cannot be used: {type(failure).__name__}: {first}; export or copy it again"
        ) from failure


def request_of(layout: Layout, columns: Mapping[str, Column], user: int, candidates: np.ndarray) -> PackedRequest:
    """Some of the rows of `columns` as candidates for the user of the row `user`."""
    once = {name: columns[name] for name in layout.user_half.columns}
    each = {name: columns[name] for name in layout.item_half.columns}
    rows = take(each, candidates) | take(once, np.array([user]))
    return pack_halves(layout, rows, np.zeros(len(candidates), np.int64), user_rows=1)


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


def by_scenario(scenario_N: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(index, its row numbers) for every scenario that occurs."""
    order = np.argsort(scenario_N, kind="stable")
    present, starts = np.unique(scenario_N[order], return_index=True)
    yield from zip(present.tolist(), np.split(order, starts[1:]), strict=True)


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


def _load_programs(path: Path, manifest: Manifest, layout: Layout) -> Programs | EarlierPrograms:
    modules = {name: _load_program(path / name) for name in PROGRAMS[manifest.format]}
    if manifest.format == FORMAT:
        return Programs(modules["score.pt"], layout)
    return EarlierPrograms(modules, layout, manifest.format)


def _golden(path: Path) -> pa.Table:
    return pq.read_table(path / "golden.parquet")


def _load_program(path: Path) -> nn.Module:
    try:
        return torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as failure:
        first = str(failure).strip().partition("\n")[0]
        raise PackageError(f"{path}: torch {torch.__version__} cannot load it: {first}") from None
