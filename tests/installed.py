"""The wheel of this checkout, and an environment in which it is installed and the checkout is unknown."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from runs import ROOT

SITE = sysconfig.get_paths()["purelib"]


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a distribution is built from, links left as links: setuptools writes into the folder it builds."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("swrec_prod", "serving", "launch", "configs"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="session")
def wheel(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    run([sys.executable, "-m", "pip", "wheel", *options, source_tree], folder)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def product_venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and the packages of this one: of this checkout it knows nothing."""
    venv = new_venv(wheel, tmp_path_factory.mktemp("product") / "venv")
    (site_of(venv) / "packages.pth").write_text(SITE)
    for name, module in (("torchx", "torchx.cli.main"), ("torchrun", "torch.distributed.run")):
        script = venv / "bin" / name
        script.write_text(f"#!{venv}/bin/python\nfrom {module} import main\nmain()\n")
        script.chmod(0o755)
    return venv


def new_venv(wheel: Path, venv: Path) -> Path:
    """An environment with the wheel alone."""
    run([sys.executable, "-m", "venv", "--without-pip", venv], wheel.parent)
    options = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")
    run([sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", *options, wheel], wheel.parent)
    return venv


def site_of(venv: Path) -> Path:
    [site] = venv.glob("lib/python*/site-packages")
    return site


def plain_environment(venv: Path | None = None) -> dict[str, str]:
    """A user's: nothing on Python's path, the commands of `venv` first."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**plain, "PATH": f"{venv}/bin{os.pathsep}{plain['PATH']}"} if venv else plain


def run(
    words: list[Any], folder: Path, venv: Path | None = None, code: int = 0, timeout: float = 100
) -> subprocess.CompletedProcess[str]:
    """A command in `folder`, run to its end with the exit code that is expected."""
    command = [str(venv / "bin" / words[0]) if venv else words[0], *map(str, words[1:])]
    streams = {"capture_output": True, "text": True, "env": plain_environment(venv)}
    done = subprocess.run(command, cwd=folder, timeout=timeout, check=False, **streams)
    assert done.returncode == code, (done.stdout + done.stderr)[-3000:]
    return done
