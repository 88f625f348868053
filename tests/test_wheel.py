"""Installed and not checked out: the wheel alone, in environments of their own, from another folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from packaging.requirements import Requirement
from runs import metrics_of_run
from tiny_world import wait_for

from swrec_prod.schema import FeatureSchema

ROOT = Path(__file__).resolve().parents[1]
SITE = sysconfig.get_paths()["purelib"]
BUILD = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a distribution is built from, links left as links: setuptools writes into the folder it builds."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("swrec_prod", "serving", "launch", "configs"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    run([sys.executable, "-m", "pip", "wheel", *options, tree], folder)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def product(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and the packages of this one: of this checkout it knows nothing."""
    venv = new_venv(wheel, tmp_path_factory.mktemp("product") / "venv")
    (site_of(venv) / "packages.pth").write_text(SITE)
    for name, module in (("torchx", "torchx.cli.main"), ("torchrun", "torch.distributed.run")):
        script = venv / "bin" / name
        script.write_text(f"#!{venv}/bin/python\nfrom {module} import main\nmain()\n")
        script.chmod(0o755)
    return venv


@pytest.fixture(scope="module")
def client(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with what `pip install swrec-prod[client]` brings, and nothing else."""
    venv = new_venv(wheel, tmp_path_factory.mktemp("client") / "venv")
    for name in needed_by(wheel):
        for top in {file.parts[0] for file in distribution(name).files or ()} - {".."}:
            if not (site_of(venv) / top).exists():
                (site_of(venv) / top).symlink_to(Path(SITE, top))
    return venv


def new_venv(wheel: Path, venv: Path) -> Path:
    run([sys.executable, "-m", "venv", "--without-pip", venv], wheel.parent)
    options = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")
    run([sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", *options, wheel], wheel.parent)
    return venv


def site_of(venv: Path) -> Path:
    [site] = venv.glob("lib/python*/site-packages")
    return site


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


def environment(venv: Path | None = None) -> dict[str, str]:
    """A user's: nothing on Python's path, the commands of `venv` first."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**plain, "PATH": f"{venv}/bin{os.pathsep}{plain['PATH']}"} if venv else plain


def run(words: list[Any], folder: Path, venv: Path | None = None, code: int = 0) -> subprocess.CompletedProcess[str]:
    """A command in `folder`, run to its end with the exit code that is expected."""
    command = [str(venv / "bin" / words[0]) if venv else words[0], *map(str, words[1:])]
    done = subprocess.run(command, cwd=folder, env=environment(venv), capture_output=True, text=True, timeout=100)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def sources(package: str, ending: str) -> set[str]:
    return {f"{package}/{path.relative_to(ROOT / package)}" for path in (ROOT / package).rglob(f"*{ending}")}


def test_the_wheel_installs_one_name_with_everything_below_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        for name in ("serving/ranking.proto", "configs/run/movielens_mscan.yaml"):
            assert archive.read(f"swrec_prod/{name}") == (ROOT / name).read_bytes()
    assert {name.split("/")[0] for name in names} == {"swrec_prod", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    linked = [
        sources("serving", ".py"),
        sources("launch", ".py"),
        sources("configs", ".yaml") - {"configs/results.yaml"},
    ]
    inside = {name for name in names if name.endswith((".py", ".yaml"))}
    assert inside == sources("swrec_prod", ".py") | {f"swrec_prod/{name}" for part in linked for name in part}


def test_a_source_distribution_has_files_in_place_of_links(tree: Path, tmp_path: Path) -> None:
    run([sys.executable, "-c", BUILD, tmp_path], tree)
    [path] = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        members = {member.name.partition("/")[2]: member for member in archive}
    assert not [name for name, member in members.items() if member.issym() or member.islnk()]
    for name in ("serving/server.py", "serving/ranking.proto", "launch/components.py", "configs/data/mind.yaml"):
        assert members[f"swrec_prod/{name}"].size == (ROOT / name).stat().st_size


MODULES = ("swrec_prod", "swrec_prod.cli", "swrec_prod.serving.client", "swrec_prod.launch.components")
LOOK = f"""
import json, importlib
from torchx.specs.finder import get_components
modules = [importlib.import_module(name).__file__ for name in {MODULES}]
print(json.dumps([modules, sorted(get_components())]))
"""


def test_modules_and_components_are_those_of_the_wheel(product: Path, tmp_path: Path) -> None:
    modules, components = json.loads(run(["python", "-c", LOOK], tmp_path, product).stdout)
    assert all(Path(file).is_relative_to(product) for file in modules), modules
    assert set(components) >= {"swrec.train", "dist.ddp", "dist.spmd", "utils.sh", "utils.python"}, (
        "TorchX's own remain"
    )


def test_datasets_say_where_their_data_files_lie(product: Path, tmp_path: Path) -> None:
    known = json.loads(run(["swrec", "datasets", "--json"], tmp_path, product).stdout)
    for dataset in known:
        assert Path(dataset["data_file"]).is_file() and Path(dataset["data_file"]).is_relative_to(product)


@pytest.fixture(scope="module")
def way(product: Path, raw_movielens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FOLDER with data, run and models/m/1, made by the installed commands in FOLDER."""
    folder = tmp_path_factory.mktemp("elsewhere")
    run(["swrec", "prepare", "movielens-1m", "--raw", raw_movielens, "--out", "data"], folder, product)
    component = ("torchx", "run", "-s", "local_cwd", "--wait", "swrec.train")
    overrides = ("data.path=data", "train.epochs=1", "train.batch_size=256")
    words = [*component, "--run", "movielens_shared_bottom", "--out", "run", "--nproc", 2, "--", *overrides]
    run(words, folder, product)
    run(["swrec", "export", "run", "--to", "models/m"], folder, product)
    return folder


def test_an_installed_product_prepares_trains_and_exports_in_any_folder(way: Path) -> None:
    assert metrics_of_run(way / "run")["rows"] == 3200 and "2 rank(s) on cpu" in (way / "run" / "log.txt").read_text()
    assert (way / "models" / "m" / "1" / "READY").is_file()
    assert {path.name for path in way.iterdir()} == {"data", "run", "models"}


@pytest.fixture(scope="module")
def target(way: Path, product: Path) -> Iterator[str]:
    """host:port of the installed server."""
    words = [product / "bin" / "swrec", "serve", "--models", "models", "--port", "0", "--port-file", "port"]
    with subprocess.Popen(words, cwd=way, env=environment(product), text=True, stdout=subprocess.DEVNULL) as server:
        yield wait_for(way / "port", server)
        server.send_signal(signal.SIGINT)  # ends at once: SIGTERM gives load balancers time


def test_installed_commands_score_as_they_predicted(way: Path, product: Path, target: str) -> None:
    expect = ("--expect", "run/predictions.parquet", "--json")
    summary = json.loads(run(["swrec", "score", "data", "--target", target, *expect], way, product).stdout)
    assert summary["rows"] > 100 and summary["max_abs_diff"] <= 1e-5


SCORE = """
import json, sys
from swrec_prod.serving import Client
with Client(sys.argv[1]) as client:
    scored = client.score(**json.loads(sys.argv[2]))
third = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(json.dumps([scored.probability.tolist(), scored.tasks, sorted(third)]))
"""


def test_the_client_scores_without_the_rest_of_the_product(way: Path, client: Path, wheel: Path, target: str) -> None:
    assert needed_by(wheel) <= {"numpy", "grpcio", "protobuf", "typing-extensions"}
    row = pq.read_table(way / "data" / "requests.parquet").slice(0, 1).to_pylist()[0]
    features = FeatureSchema.load(way / "data" / "schema.yaml").features
    user = {f.name: row[f.name] for f in features if f.side != "item" and f.kind != "sequence"}
    items = [{f.name: row[f.name] for f in features if f.side == "item"}] * 3
    question = json.dumps({"scenario": row["scenario"], "user": user, "items": items})
    probability, tasks, packages = json.loads(run(["python", "-c", SCORE, target, question], way, client).stdout)
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
    blocked: str, words: list[str], product: Path, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "configs" / "run" / "movielens_mscan.yaml", tmp_path / "run.yaml")
    code = f"import sys; sys.modules['{blocked}'] = None; from swrec_prod.entry import main; main()"
    done = run(["python", "-c", code, *words], tmp_path, product, code=2)
    assert done.stderr.startswith(f"ModuleNotFoundError: {blocked} is not installed; ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("blocked", ["swrec_prod.cli", "typer.core"])
def test_a_damaged_installation_is_not_taken_for_a_partial_one(blocked: str, product: Path, tmp_path: Path) -> None:
    code = f"import sys; sys.modules['{blocked}'] = None; from swrec_prod.entry import main; main()"
    assert "Traceback" in run(["python", "-c", code], tmp_path, product, code=1).stderr
