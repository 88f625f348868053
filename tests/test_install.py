"""The locks are complete and never mix the two fbgemm; set-up notices what is not as locked and explains failures."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from swrec_prod.entry import COMPLETE

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"


def load_install() -> ModuleType:
    """requirements/install.py, which is a script and no part of a package."""
    spec = importlib.util.spec_from_file_location("install", LOCKS / "install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


install = load_install()
SHARED = install.pins((LOCKS / "shared.txt").read_text())
NAMES = {m.group(1) for m in re.finditer(r"^([a-z0-9.-]+)==", (LOCKS / "shared.txt").read_text(), re.MULTILINE)}


def fake_venv(folder: Path, *packages: str, fbgemm_files: bool = True) -> Path:
    """A folder that looks like an environment with `packages` (name==version) in it."""
    site = folder / "lib" / "python3.11" / "site-packages"
    for package in packages:
        name, version = package.split("==")
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if fbgemm_files:
        (site / "fbgemm_gpu").mkdir(parents=True)
        (site / "fbgemm_gpu" / "__init__.py").touch()
    return folder


def test_shared_lock_names_neither_torch_nor_fbgemm() -> None:
    assert "torchrec" in NAMES and not {"torch", "fbgemm-gpu", "fbgemm-gpu-cpu"} & NAMES
    assert not [name for name in NAMES if name.startswith(("nvidia-", "cuda-", "triton"))]


@pytest.mark.parametrize(("flavour", "fbgemm"), [("cpu", "fbgemm-gpu-cpu"), ("gpu", "fbgemm-gpu")])
def test_a_flavour_is_the_shared_lock_and_its_own_two(flavour: str, fbgemm: str) -> None:
    text = (LOCKS / f"{flavour}.txt").read_text()
    assert "-r shared.txt" in text and set(install.pins(text)) == {"torch", fbgemm}


def test_flavours_pin_the_versions_that_the_project_declares() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for flavour in ("cpu", "gpu"):
        declared = dict(
            r.split("==")
            for r in extras["product"] + [r for r in extras["gpu"] if "fbgemm" not in r] + extras[flavour]
            if r.startswith(("torch==", "torchrec==", "fbgemm"))
        )
        locked = SHARED | install.pins((LOCKS / f"{flavour}.txt").read_text())
        assert len(declared) == 3 and {name: locked[name] for name in declared} == declared


def test_everything_declared_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [Requirement(r) for r in (*project["dependencies"], *extras["product"], *extras["gpu"], *extras["dev"])]
    for requirement in declared:
        if requirement.name not in ("torch", "fbgemm-gpu", "swrec-prod"):
            assert requirement.specifier.contains(SHARED[requirement.name]), requirement


def test_everything_that_a_locked_package_needs_is_locked() -> None:
    """Packages are installed without resolving, so the lock has to be closed under requirements."""
    beside = {"torch", "fbgemm-gpu"}  # each flavour's own
    missing = []
    for name in SHARED:
        for line in distribution(name).requires or []:
            need = Requirement(line)
            wanted = need.marker is None or need.marker.evaluate({"extra": ""})
            version = SHARED.get(canonicalize_name(need.name))
            if (
                wanted
                and need.name not in beside
                and (canonicalize_name(need.name) not in NAMES or (version and not need.specifier.contains(version)))
            ):
                missing.append(f"{name} needs {need}")
    assert missing == []


def test_this_environment_is_as_locked_for_the_packages_that_matter() -> None:
    have = install.installed(Path(sys.prefix))
    assert {name: have[name] for name in ("torchrec", "torchx", "torchmetrics")} == {
        name: SHARED[name] for name in ("torchrec", "torchx", "torchmetrics")
    }


@pytest.mark.parametrize(
    ("packages", "flavour", "removed"),
    [
        (("torch==2.13.0+cpu", "fbgemm-gpu-cpu==1.8.0"), "cpu", []),
        (("torch==2.13.0", "fbgemm-gpu-cpu==1.8.0"), "cpu", []),
        (("torch==2.13.0+cpu", "fbgemm-gpu-cpu==1.8.0", "fbgemm-gpu==1.8.0"), "cpu", ["fbgemm-gpu-cpu", "fbgemm-gpu"]),
        (("torch==2.13.0", "fbgemm-gpu==1.8.0"), "cpu", ["fbgemm-gpu"]),
        (("torch==2.13.0", "fbgemm-gpu==1.8.0"), "gpu", []),
        (("torch==2.13.0+cpu", "fbgemm-gpu-cpu==1.8.0"), "gpu", ["fbgemm-gpu-cpu", "torch"]),
        ((), "cpu", []),
    ],
)
def test_what_does_not_belong_to_a_flavour_is_removed(
    tmp_path: Path, packages: tuple[str, ...], flavour: str, removed: list[str]
) -> None:
    assert install.conflicts(fake_venv(tmp_path, *packages), flavour) == removed


def test_an_fbgemm_without_its_files_is_installed_anew(tmp_path: Path) -> None:
    venv = fake_venv(tmp_path, "torch==2.13.0", "fbgemm-gpu-cpu==1.8.0", fbgemm_files=False)
    assert install.conflicts(venv, "cpu") == ["fbgemm-gpu-cpu"]


def test_differences_are_what_is_not_as_locked(tmp_path: Path) -> None:
    locked = SHARED | install.pins((LOCKS / "cpu.txt").read_text())
    fake_venv(
        tmp_path,
        *(f"{n}=={v}{'+cpu' if n == 'torch' else ''}" for n, v in locked.items() if n not in ("numpy", "rich")),
        "rich==1.0",
    )
    assert sorted(install.differences(tmp_path, "cpu")) == ["numpy", "rich"]


def test_fingerprint_follows_flavour() -> None:
    assert install.fingerprint("cpu") == install.fingerprint("cpu") != install.fingerprint("gpu")


def test_an_up_to_date_environment_is_left_alone_and_its_flavour_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    locked = SHARED | install.pins((LOCKS / "gpu.txt").read_text())
    fake_venv(tmp_path, *(f"{n}=={v}" for n, v in locked.items()))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    stamp = install.Stamp("gpu", install.fingerprint("gpu"))
    (tmp_path / ".setup.stamp").write_text(install.json.dumps(stamp._asdict()))
    monkeypatch.setattr(install.subprocess, "run", lambda *a, **k: pytest.fail("nothing had to be run"))
    assert install.main(["--venv", str(tmp_path)]) == 0
    assert "up to date (gpu flavour)" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "{}", "[1]", "not json", '{"flavour": "cpu", "other": 1}'])
def test_a_damaged_stamp_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / ".setup.stamp").write_text(text)
    assert install.read_stamp(tmp_path) is None


def test_a_folder_that_is_no_environment_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert install.main(["--venv", str(tmp_path)]) == 1
    assert "is not a virtual environment" in capsys.readouterr().err and (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize("version", [(3, 10), (3, 13), (2, 7)])
def test_another_python_is_refused_with_what_to_do(version: tuple[int, int]) -> None:
    with pytest.raises(install.SetupError, match=r"Python 3\.11 or 3\.12 is needed.*make setup PYTHON="):
        install.check_python(version)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            "ERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from versions: none)",
            "cannot be reached",
        ),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("something new", "running it again is safe"),
    ],
)
def test_a_failure_shows_the_end_of_the_output_and_a_remedy(output: str, said: str) -> None:
    text = install.explain("first line\n" * 50 + output, Path("setup.log"))
    assert output in text and said in text and text.count("first line") < 20


def test_an_index_that_does_not_answer_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not install.reachable("http://127.0.0.1:9/torch/", timeout=1)
    assert not install.reachable("no address")
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(install, "pip", lambda venv, *arguments: commands.append(arguments))
    monkeypatch.setenv("SWREC_TORCH_INDEX", "http://127.0.0.1:9")
    install.install_torch(tmp_path, "cpu")
    assert len(commands) == 1 and "--extra-index-url" not in commands[0]


def test_an_index_that_answers_but_fails_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[tuple[str, ...]] = []

    def pip(venv: Path, *arguments: str) -> None:
        commands.append(arguments)
        if "--extra-index-url" in arguments:
            raise install.SetupError("404")

    monkeypatch.setattr(install, "reachable", lambda url: True)
    monkeypatch.setattr(install, "pip", pip)
    install.install_torch(tmp_path, "cpu")
    assert ["--extra-index-url" in command for command in commands] == [True, False]
    assert all("torch==2.13.0" in command for command in commands)


def test_a_flavour_installs_all_that_the_product_needs_and_pip_no_cuda_on_a_cpu_machine() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert all("swrec-prod[product]" in extras[flavour] for flavour in ("cpu", "gpu")) and extras["client"] == []
    needed = {
        canonicalize_name(Requirement(r).name) for r in distribution("torchrec").requires or () if "extra" not in r
    }
    product = {canonicalize_name(Requirement(r).name) for r in extras["product"]}
    assert needed - product == {"fbgemm-gpu"}, "cpu leaves out torchrec, which would bring the CUDA fbgemm"
    [torchrec] = [r for r in extras["gpu"] if r.startswith("torchrec==")]
    assert f"pip install --no-deps {torchrec}" in COMPLETE
