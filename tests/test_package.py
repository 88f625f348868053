"""The package folder: what is published, what is refused, and that a damaged one says where."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tiny_world import MODELS, STRENGTHS, catalog_of, eager_logits, make_config, make_ranker, prepare

from swrec_prod.errors import DataError, PackageError, RequestError
from swrec_prod.export.loaded import EXPECTED, Package, Programs
from swrec_prod.export.package import destination, installed, ready_versions, staged, verify_package
from swrec_prod.export.parity import EAGER_BOUND
from swrec_prod.export.run import export_package
from swrec_prod.serving.protocol.call import ScoreCall
from swrec_prod.serving.scoring.predictor import Predictor

pytestmark = pytest.mark.slow  # compiles programs


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare(folder)
    return folder


def export(prepared: Path, to: Path, model: str = "shared_bottom", quantize: str = "none") -> Path:
    return export_package(
        make_ranker(model, prepared), make_config(model, prepared), catalog_of(prepared), to, quantize
    )


@pytest.fixture(scope="module")
def published(prepared, tmp_path_factory) -> Path:
    return export(prepared, tmp_path_factory.mktemp("repo") / "bottom")


@pytest.fixture
def package(published, tmp_path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(published, tmp_path / "bottom" / "1"))


def sign_again(package: Path) -> None:
    """Make the checksums fit whatever the files hold now."""
    manifest = json.loads((package / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        entry["sha256"] = hashlib.sha256((package / name).read_bytes()).hexdigest()
    (package / "manifest.json").write_text(json.dumps(manifest))
    seal(package)


def seal(package: Path) -> None:
    (package / "READY").write_text(hashlib.sha256((package / "manifest.json").read_bytes()).hexdigest())


@pytest.mark.parametrize(
    ("model", "quantize"), [("mscan", "none"), ("mscan", "int8"), ("shared_bottom", "fp16"), ("shared_bottom", "int4")]
)
def test_export_publishes_what_it_measured(model, quantize, prepared, tmp_path):
    path = export(prepared, tmp_path / "repo" / model, model, quantize)
    manifest = verify_package(path)
    assert path == tmp_path / "repo" / model / "1"
    assert (manifest.model, manifest.quantize, manifest.tasks) == (model, quantize, ("click", "buy"))
    assert manifest.causal == manifest.history == (model == "mscan")
    assert manifest.debias_strength == (STRENGTHS if model == "mscan" else {})
    assert manifest.libraries == installed()
    assert 0 <= manifest.parity.one_mixed <= 1e-5
    assert manifest.parity.user_once is not None
    assert 0 <= manifest.parity.user_once <= 1e-5
    assert manifest.parity.mixed_eager <= (1e-5 if quantize == "none" else 0.5)
    assert Package.load(path).replay() <= 1e-5
    assert [p.name for p in path.parent.iterdir()] == ["1"]  # nothing temporary is left


@pytest.mark.parametrize("model", MODELS)
def test_golden_rows_expect_what_the_trained_ranker_says(model, prepared, tmp_path):
    golden = Package.load(export(prepared, tmp_path / model, model)).golden
    expected = eager_logits(make_ranker(model, prepared), prepared, golden)
    for name, wanted in zip(EXPECTED, expected, strict=True):
        np.testing.assert_allclose(np.array(golden[name].to_pylist()).reshape(wanted.shape), wanted, atol=1e-5)


def test_c_is_bounded_by_what_interest_was_seen(prepared, tmp_path):
    package = Package.load(export(prepared, tmp_path / "mscan", "mscan"))
    interest = np.array(package.golden[EXPECTED[1]].to_pylist())
    seen = [interest.min(), interest.max(), 0.0, *STRENGTHS.values()]
    low, high = package.manifest.strength_range
    width = max(seen) - min(seen)
    assert (low, high) == pytest.approx((min(seen) - width, max(seen) + width), abs=1e-5)
    predictor = Predictor(package)
    for c in (low, high, 0.0, *STRENGTHS.values()):
        assert predictor.strength(ScoreCall("", "", "home", debias_strength=c), 0) == c
    for c in (low - 0.01, high + 0.01, 1e39, float("nan"), float("-inf")):
        with pytest.raises(RequestError, match=r"debias_strength is \S+; expected \S+ to \S+, the range of mscan/1"):
            predictor.strength(ScoreCall("", "", "home", debias_strength=c), 0)
    assert Package.load(export(prepared, tmp_path / "bottom")).manifest.strength_range is None


def test_calibration_of_each_scenario_is_told(prepared, tmp_path):
    record = {"scenarios": {"home": {"calibration": 1.25, "auc": 0.7}, "cart": {"calibration": None}}}
    metrics = {**record, "tasks": {"click": record, "buy": {"scenarios": {"cart": {"calibration": 0.5}}}}}
    config, ranker = make_config("shared_bottom", prepared), make_ranker("shared_bottom", prepared)
    path = export_package(ranker, config, catalog_of(prepared), tmp_path / "bottom", "none", metrics)
    assert verify_package(path).calibration == {"click": {"home": 1.25}, "buy": {"cart": 0.5}}


def test_versions_count_up_and_are_never_overwritten(prepared, tmp_path):
    repo = tmp_path / "repo" / "bottom"
    assert export(prepared, repo).name == "1"
    assert export(prepared, repo).name == "2"
    assert export(prepared, repo / "9").name == "9"
    assert destination(repo).name == "10"
    assert ready_versions(repo) == [1, 2, 9]
    with pytest.raises(PackageError, match=r"9: exists, and a version is never changed; the next free one is 10"):
        export(prepared, repo / "9")


def test_a_name_that_cannot_be_served_is_refused(tmp_path):
    with pytest.raises(PackageError, match="'a model' is no name"):
        destination(tmp_path / "a model")


def test_an_export_that_disagrees_publishes_nothing(prepared, tmp_path, monkeypatch):
    monkeypatch.setitem(EAGER_BOUND, "int4", 1e-9)
    with pytest.raises(
        PackageError, match=r"score.pt differs from the trained ranker by .* nothing was published; int4 loses too much"
    ):
        export(prepared, tmp_path / "bottom", quantize="int4")
    assert not list(tmp_path.rglob("*.pt"))


def test_an_export_that_breaks_off_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "bottom" / "1") as folder:
        (folder / "score.pt").write_bytes(b"half")
        raise KeyboardInterrupt
    assert list((tmp_path / "bottom").iterdir()) == []


def test_not_a_number_is_not_published(prepared, tmp_path):
    ranker = make_ranker("shared_bottom", prepared)
    next(ranker.scorer.parameters()).data.fill_(float("nan"))
    with pytest.raises(PackageError, match="differs from the trained ranker by nan"):
        export_package(
            ranker, make_config("shared_bottom", prepared), catalog_of(prepared), tmp_path / "bottom", "none"
        )


def test_export_needs_held_out_rows(prepared, tmp_path):
    folder = shutil.copytree(prepared, tmp_path / "prepared")
    (folder / "requests.parquet").unlink()
    with pytest.raises(DataError, match=r"requests.parquet: no such file; prepare the data again"):
        export(folder, tmp_path / "bottom")


def test_export_needs_a_golden_row(prepared, tmp_path):
    folder = shutil.copytree(prepared, tmp_path / "prepared")
    pq.write_table(pq.read_table(folder / "requests.parquet").slice(0, 0), folder / "requests.parquet")
    with pytest.raises(PackageError, match=r"requests.parquet: holds no row, so nothing could be checked"):
        export(folder, tmp_path / "bottom")


def test_another_vocabulary_of_the_same_length_is_not_exported(prepared, tmp_path):
    folder = shutil.copytree(prepared, tmp_path / "prepared")
    vocabulary = pq.read_table(folder / "vocab" / "user_id.parquet")
    turned = vocabulary.set_column(1, "value", vocabulary["value"].combine_chunks()[::-1])
    pq.write_table(turned, folder / "vocab" / "user_id.parquet")
    with pytest.raises(
        DataError,
        match=r"prepared: schema.yaml or vocab/ was changed \(fingerprint \w+, trained with \w+\); put it back",
    ):
        export(folder, tmp_path / "bottom")
    assert not (tmp_path / "bottom").exists()


def test_every_scenario_is_compared_whatever_the_golden_rows_are_of(prepared, tmp_path, monkeypatch):
    folder = shutil.copytree(prepared, tmp_path / "prepared")
    rows = pq.read_table(folder / "requests.parquet")
    pq.write_table(rows.filter(pc.equal(rows["scenario"], "home")), folder / "requests.parquet")
    assert export(folder, tmp_path / "bottom").name == "1"
    right = Programs.request
    monkeypatch.setattr(
        Programs, "request", lambda self, packed, scenario: right(self, packed, 0 if scenario == 2 else scenario)
    )
    with pytest.raises(PackageError, match=r"score.pt differs from the trained ranker"):
        export(folder, tmp_path / "bottom")


@pytest.mark.process
def test_an_export_sweeps_what_a_killed_one_left(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    alive = os.getppid()
    for pid in (ended.pid, alive):
        (tmp_path / f".1.tmp-{platform.node()}-{pid}").mkdir()
    with staged(tmp_path / "1"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"1", f".1.tmp-{platform.node()}-{alive}"}


def test_a_version_that_appears_meanwhile_is_not_replaced(tmp_path):
    with pytest.raises(PackageError, match=r"appeared while it was being written"), staged(tmp_path / "1") as folder:
        (folder / "mine").touch()
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "theirs").touch()
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["theirs"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab/encoders.json", "{", r"encoders.json: damaged"),
        ("schema.yaml", "name: tiny", r"schema.yaml: .*required, but not given"),
    ],
)
def test_damaged_encoders_are_a_package_error(package, name, content, message):
    (package / name).write_text(content)
    sign_again(package)
    with pytest.raises(PackageError, match=message):
        Package.load(package)


def test_every_flipped_byte_is_found(published, tmp_path):
    names = [p.relative_to(published).as_posix() for p in published.rglob("*") if p.is_file() and p.name != "READY"]
    assert len(names) >= 6
    for name in names:
        package = shutil.copytree(published, tmp_path / name.replace("/", "-") / "1")
        data = bytearray((package / name).read_bytes())
        was = hashlib.sha256(data).hexdigest()[:12]
        data[len(data) // 2] ^= 1
        (package / name).write_bytes(data)
        now = hashlib.sha256(data).hexdigest()[:12]
        with pytest.raises(PackageError, match=rf"{name}: checksum {now}, but \S+ says {was}"):
            verify_package(package)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("READY", "READY: missing; the export or copy did not finish"),
        ("score.pt", "score.pt: missing"),
        ("vocab/encoders.json", "encoders.json: missing"),
    ],
)
def test_a_missing_file_is_named(package, name, message):
    (package / name).unlink()
    with pytest.raises(PackageError, match=message):
        verify_package(package)


def test_a_file_too_many_is_named(package):
    (package / "notes.txt").write_text("hello")
    with pytest.raises(PackageError, match=r"notes.txt: not listed in manifest.json"):
        verify_package(package)


def test_a_required_file_must_be_listed(package):
    manifest = json.loads((package / "manifest.json").read_text())
    del manifest["files"]["score.pt"]
    (package / "manifest.json").write_text(json.dumps(manifest))
    seal(package)
    with pytest.raises(PackageError, match=r"score.pt: not listed in manifest.json"):
        verify_package(package)


def test_a_link_out_of_the_package_is_refused(package, tmp_path):
    outside = tmp_path / "elsewhere.pt"
    shutil.move(package / "score.pt", outside)
    (package / "score.pt").symlink_to(outside)
    with pytest.raises(PackageError, match=r"score.pt: a link that leads out of the package, to .*elsewhere.pt"):
        verify_package(package)


def test_another_format_is_named(package):
    manifest = json.loads((package / "manifest.json").read_text())
    (package / "manifest.json").write_text(json.dumps({**manifest, "format": 4}))
    seal(package)
    with pytest.raises(PackageError, match=r"manifest.json: format version 4; this program reads 1 to 3"):
        verify_package(package)


def test_other_libraries_are_a_warning(package, caplog):
    manifest = json.loads((package / "manifest.json").read_text())
    manifest["libraries"]["torch"] = "1.0.0"
    (package / "manifest.json").write_text(json.dumps(manifest))
    seal(package)
    assert verify_package(package).libraries["torch"] == "1.0.0"
    assert "exported with torch 1.0.0" in caplog.text


def test_golden_rows_decide(package):
    golden = pq.read_table(package / "golden.parquet")
    logits = golden[EXPECTED[0]].to_pylist()
    logits[3][1] += 0.5
    at = golden.column_names.index(EXPECTED[0])
    pq.write_table(
        golden.set_column(at, EXPECTED[0], pa.array(logits, pa.list_(pa.float32()))), package / "golden.parquet"
    )
    sign_again(package)
    with pytest.raises(PackageError, match=r"1: golden rows differ by 0\.\d+, allowed are 0.0001"):
        Package.load(package).replay()


def test_a_program_that_torch_cannot_load_is_named(package):
    (package / "score.pt").write_bytes(b"not a program")
    sign_again(package)
    with pytest.raises(PackageError, match=r"score.pt: torch \S+ cannot load it"):
        Package.load(package)
