"""Packages that were damaged in fifty ways, each with the stage at which it has to be refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from swrec_prod.export.loaded import EXPECTED

FILES = ("score.pt", "schema.yaml", "vocab/encoders.json", "golden.parquet", "manifest.json")


class Damage(NamedTuple):
    """What was done, at which stage it is noticed, and how to do it to the package in a folder."""

    name: str
    stage: str
    do: Callable[[Path], Any]


def sign_again(package: Path) -> None:
    """Make the checksums fit whatever the files hold now."""
    manifest = json.loads((package / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        entry["sha256"] = hashlib.sha256((package / name).read_bytes()).hexdigest()
    (package / "manifest.json").write_text(json.dumps(manifest))
    seal(package)


def seal(package: Path) -> None:
    """Make READY fit the manifest."""
    (package / "READY").write_text(hashlib.sha256((package / "manifest.json").read_bytes()).hexdigest())


def say(package: Path, **manifest: Any) -> None:
    """Other entries of the manifest, sealed."""
    before = json.loads((package / "manifest.json").read_text())
    (package / "manifest.json").write_text(json.dumps({**before, **manifest}))
    seal(package)


def signed(change: Callable[[Path], Any]) -> Callable[[Path], None]:
    """The change, by somebody who can sign."""

    def do(package: Path) -> None:
        change(package)
        sign_again(package)

    return do


def flip(name: str, share: float) -> Callable[[Path], None]:
    """One bit of a file."""

    def do(package: Path) -> None:
        data = bytearray((package / name).read_bytes())
        data[int(share * (len(data) - 1))] ^= 4
        (package / name).write_bytes(data)

    return do


def cut(name: str, share: float = 0.5) -> Callable[[Path], None]:
    """A file without its end."""
    return lambda package: (package / name).write_bytes(
        (package / name).read_bytes()[: int(share * (package / name).stat().st_size)]
    )


def content(name: str, data: bytes) -> Callable[[Path], Any]:
    return lambda package: (package / name).write_bytes(data)


def golden(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    """Other golden rows, signed."""

    def do(package: Path) -> None:
        pq.write_table(change(pq.read_table(package / "golden.parquet")), package / "golden.parquet")
        sign_again(package)

    return do


def logits(change: Callable[[np.ndarray], Any], name: str = EXPECTED[0]) -> Callable[[Path], None]:
    """Golden rows that expect other logits."""

    def of(table: pa.Table) -> pa.Table:
        values = np.array(table[name].to_pylist(), np.float32)
        values = change(values)
        at = table.column_names.index(name)
        return table.set_column(at, name, pa.array(values.tolist(), pa.list_(pa.float32())))

    return golden(of)


def poisoned(package: Path) -> None:
    """The largest weights are no numbers: all bits of theirs are ones."""
    with zipfile.ZipFile(package / "score.pt") as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    largest = max((name for name in parts if "/constants/" in name), key=lambda name: len(parts[name]))
    parts[largest] = b"\xff" * len(parts[largest])
    with zipfile.ZipFile(package / "score.pt", "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    sign_again(package)


def other_program(package: Path) -> None:
    """A program that is none of ours."""

    class Other(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    torch.jit.save(torch.jit.script(Other()), str(package / "score.pt"))
    sign_again(package)


def bomb(package: Path) -> None:
    """An archive of zeros where a program should be."""
    with zipfile.ZipFile(package / "score.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("score/data.pkl", bytes(1 << 24))
    sign_again(package)


def linked(target: str) -> Callable[[Path], None]:
    """A file that is a link."""

    def do(package: Path) -> None:
        (package / "score.pt").unlink()
        (package / "score.pt").symlink_to(target)

    return do


def shifted(values: np.ndarray) -> np.ndarray:
    values[0] += 0.01
    return values


def damages() -> Iterator[Damage]:
    """All of them, for a causal package of the tiny world."""
    for name in FILES:
        for share in (0.0, 0.5, 1.0):
            yield Damage(f"bit at {share} of {name}", "validate", flip(name, share))
        yield Damage(f"half of {name}", "validate", cut(name))
        yield Damage(f"no {name}", "validate", lambda package, name=name: (package / name).unlink())  # type: ignore[misc]
    yield Damage("empty READY", "validate", content("READY", b""))
    yield Damage("no READY", "files", lambda package: (package / "READY").unlink())
    yield Damage("a file too many", "validate", content("notes.txt", b"hello"))
    yield Damage("link out of it", "validate", linked("/etc/hostname"))
    yield Damage("link to nowhere", "validate", linked("../../nowhere"))
    yield Damage("a future format", "validate", lambda package: say(package, format=9))
    yield Damage("an unknown key", "validate", lambda package: say(package, surprise=1))
    yield Damage("tasks that are no list", "validate", lambda package: say(package, tasks=3))
    yield Damage("c that is no number", "validate", lambda p: say(p, debias_strength={"home": float("nan")}))
    yield Damage("endless c", "validate", lambda p: say(p, debias_strength={"home": float("inf")}))
    yield Damage("c out of its range", "validate", lambda p: say(p, strength_range=[0.9, 1.0]))
    yield Damage("an endless range of c", "validate", lambda p: say(p, strength_range=[float("-inf"), 1.0]))
    yield Damage("c without a scenario", "load", lambda p: say(p, debias_strength={"home": 0.0}))
    yield Damage("other tasks", "load", lambda package: say(package, tasks=["click"]))
    yield Damage("a manifest that is no JSON", "validate", lambda p: (content("manifest.json", b"{")(p), seal(p)))
    yield Damage("a signed program of noise", "load", signed(content("score.pt", b"no program")))
    yield Damage("half a program, signed", "load", signed(cut("score.pt")))
    yield Damage("an archive of zeros", "load", bomb)
    yield Damage("another schema", "load", signed(content("schema.yaml", b"name: tiny")))
    yield Damage("a schema that is no YAML", "load", signed(content("schema.yaml", b"{: [")))
    yield Damage("no vocabularies", "load", signed(content("vocab/encoders.json", b"{}")))
    yield Damage("vocabularies of noise", "load", signed(content("vocab/encoders.json", b"\xff\xfe")))
    yield Damage("golden rows of noise", "load", signed(content("golden.parquet", b"PAR1nothing")))
    yield Damage("a program that is another", "golden", other_program)
    yield Damage("weights that are no numbers", "golden", poisoned)
    yield Damage("no golden rows", "golden", golden(lambda table: table.slice(0, 0)))
    yield Damage("no golden row of a place", "golden", golden(lambda t: t.filter(pc.not_equal(t["scenario"], "cart"))))
    yield Damage("a golden row of an unknown place", "golden", golden(_elsewhere))
    yield Damage("golden rows without a feature", "golden", golden(lambda table: table.drop_columns(["price"])))
    yield Damage("golden rows without logits", "golden", golden(lambda table: table.drop_columns([EXPECTED[0]])))
    yield Damage("other golden logits", "golden", logits(shifted))
    yield Damage("golden logits that are no numbers", "golden", logits(lambda values: values * np.nan))
    yield Damage("golden logits of one task", "golden", logits(lambda values: values[:, :1]))
    yield Damage("other interest logits", "golden", logits(shifted, EXPECTED[1]))


def _elsewhere(table: pa.Table) -> pa.Table:
    places = ["nowhere", *table["scenario"].to_pylist()[1:]]
    return table.set_column(table.column_names.index("scenario"), "scenario", pa.array(places))


def damaged(package: Path, to: Path, damage: Damage) -> Path:
    """A damaged copy, in the folder `to` that is not there yet."""
    shutil.copytree(package, to)
    damage.do(to)
    return to
