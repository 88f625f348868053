"""Installed and not checked out: the wheel alone, in environments of their own, from another folder."""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from installed import SITE, new_venv, run, site_of
from packaging.requirements import Requirement
from runs import ROOT, metrics_of_run
from whole_way import SOME_FEATURES, Served, WholeWay

from swrec_prod.schema import FeatureSchema

pytestmark = pytest.mark.process
BUILD = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


@pytest.fixture(scope="module")
def client(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with what `pip install swrec-prod[client]` brings, and nothing else."""
    venv = new_venv(wheel, tmp_path_factory.mktemp("client") / "venv")
    for name in needed_by(wheel):
        for top in {file.parts[0] for file in distribution(name).files or ()} - {".."}:
            if not (site_of(venv) / top).exists():
                (site_of(venv) / top).symlink_to(Path(SITE, top))
    return venv


def needed_by(wheel: Path) -> set[str]:
    """Names of the packages that a wheel needs without extras, with what they need in turn."""
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        lines = archive.read(metadata).decode().splitlines()
    queue = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    names: set[str] = set()
    while queue:
        requirement = Requirement(queue.pop())
        if requirement.name not in names and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            names.add(requirement.name)
            queue += distribution(requirement.name).requires or ()
    return names


def sources(package: str, ending: str) -> set[str]:
    return {f"{package}/{path.relative_to(ROOT / package)}" for path in (ROOT / package).rglob(f"*{ending}")}


def test_the_wheel_installs_one_name_with_everything_below_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        for name in ("serving/protocol/ranking.proto", "configs/run/movielens_mscan.yaml"):
            assert archive.read(f"swrec_prod/{name}") == (ROOT / name).read_bytes()
    assert {name.split("/")[0] for name in names} == {"swrec_prod", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    linked = [
        sources("serving", ".py"),
        sources("serving/watching/page", ""),
        sources("launch", ".py"),
        sources("configs", ".yaml") - {"configs/results.yaml"},
    ]
    inside = {name for name in names if name.endswith((".py", ".yaml", ".html", ".css", ".js"))}
    own = sources("swrec_prod", ".py") | sources("swrec_prod/drawing/templates", "")
    assert inside == own | {f"swrec_prod/{name}" for part in linked for name in part}


def test_a_source_distribution_has_files_in_place_of_links(source_tree: Path, tmp_path: Path) -> None:
    run([sys.executable, "-c", BUILD, tmp_path], source_tree)
    [path] = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        members = {member.name.partition("/")[2]: member for member in archive}
    assert not [name for name, member in members.items() if member.issym() or member.islnk()]
    for name in (
        "serving/process/server.py",
        "serving/protocol/ranking.proto",
        "launch/components.py",
        "configs/data/mind.yaml",
    ):
        assert members[f"swrec_prod/{name}"].size == (ROOT / name).stat().st_size


MODULES = ("swrec_prod", "swrec_prod.cli", "swrec_prod.serving.client", "swrec_prod.launch.components")
LOOK = f"""
import json, importlib
from torchx.specs.finder import get_components
from swrec_prod.prepare.data_file import DataFile
assert DataFile.load("movielens-1m") == DataFile.load("movielens_1m_age")
modules = [importlib.import_module(name).__file__ for name in {MODULES}]
print(json.dumps([modules, sorted(get_components())]))
"""


def test_modules_and_components_are_those_of_the_wheel(product_venv: Path, tmp_path: Path) -> None:
    modules, components = json.loads(run(["python", "-c", LOOK], tmp_path, product_venv).stdout)
    assert all(Path(file).is_relative_to(product_venv) for file in modules), modules
    assert set(components) >= {"swrec.train", "dist.ddp", "dist.spmd", "utils.sh", "utils.python"}, (
        "TorchX's own remain"
    )


def test_datasets_say_where_their_data_files_lie(product_venv: Path, tmp_path: Path) -> None:
    known = json.loads(run(["swrec", "datasets", "--json"], tmp_path, product_venv).stdout)
    for dataset in known:
        assert Path(dataset["data_file"]).is_file() and Path(dataset["data_file"]).is_relative_to(product_venv)


def test_an_installed_product_prepares_trains_and_exports_in_any_folder(whole_way: WholeWay) -> None:
    assert metrics_of_run(whole_way.run)["rows"] == 3622
    assert "2 rank(s) on cpu" in (whole_way.run / "log.txt").read_text()
    assert (whole_way.package / "READY").is_file()
    assert [path.name for path in whole_way.folder.parent.iterdir()] == ["demo"], "nothing is written beside --out"


def test_installed_commands_score_as_they_predicted(whole_way: WholeWay) -> None:
    summary = json.loads((whole_way.folder / "served.json").read_text())
    assert summary["rows"] > 100 and summary["max_abs_diff"] <= 1e-5


SCORE = """
import json, sys
from swrec_prod.serving import Client
with Client(sys.argv[1]) as client:
    scored = client.score(**json.loads(sys.argv[2]))
third = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(json.dumps([scored.probability.tolist(), scored.tasks, sorted(third)]))
"""


def test_the_client_scores_without_the_rest_of_the_product(
    whole_way: WholeWay, served: Served, client: Path, wheel: Path, tmp_path: Path
) -> None:
    assert needed_by(wheel) <= {"numpy", "grpcio", "protobuf", "typing-extensions"}
    row = pq.read_table(whole_way.data / "requests.parquet").slice(0, 1).to_pylist()[0]
    features = [f for f in FeatureSchema.load(whole_way.data / "schema.yaml").features if f.name in SOME_FEATURES]
    user = {f.name: row[f.name] for f in features if f.side != "item"}
    items = [{f.name: row[f.name] for f in features if f.side == "item"}] * 3
    question = json.dumps({"model": "few", "scenario": row["scenario"], "user": user, "items": items})
    probability, tasks, packages = json.loads(
        run(["python", "-c", SCORE, served.target, question], tmp_path, client).stdout
    )
    assert tasks == ["click"] and len(probability) == 3 and 0 < probability[0][0] < 1
    assert probability == probability[:1] * 3
    assert not {"torch", "torchrec", "pyarrow", "pydantic", "yaml", "typer"} & set(packages)


@pytest.mark.parametrize("words", [["--help"], ["score", "data"], ["train", "movielens_mscan", "--out", "run"]])
def test_a_command_beside_the_client_alone_says_what_to_install(words: list[str], client: Path, tmp_path: Path) -> None:
    done = run(["swrec", *words], tmp_path, client, code=2)
    assert done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("ModuleNotFoundError: typer is not installed; ")
    assert "pip install 'swrec-prod[cpu]'" in done.stderr


@pytest.mark.parametrize(
    ("blocked", "words"),
    [("torch", ["serve", "--models", "models"]), ("torchrec", ["train", "run.yaml", "--out", "x"])],
)
def test_a_package_that_only_some_commands_need_is_named_by_those(
    blocked: str, words: list[str], product_venv: Path, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "configs" / "run" / "movielens_mscan.yaml", tmp_path / "run.yaml")
    code = f"import sys; sys.modules['{blocked}'] = None; from swrec_prod.entry import main; main()"
    done = run(["python", "-c", code, *words], tmp_path, product_venv, code=2)
    assert done.stderr.startswith(f"ModuleNotFoundError: {blocked} is not installed; ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("blocked", ["swrec_prod.cli", "typer.core"])
def test_a_damaged_installation_is_not_taken_for_a_partial_one(
    blocked: str, product_venv: Path, tmp_path: Path
) -> None:
    code = f"import sys; sys.modules['{blocked}'] = None; from swrec_prod.entry import main; main()"
    assert "Traceback" in run(["python", "-c", code], tmp_path, product_venv, code=1).stderr
