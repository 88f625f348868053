"""`make setup`: make the virtual environment and install the locked packages and this project into it.

Standard library only, run by the system's Python; doing it again takes a moment and changes nothing.

Notable choices
- torchrec asks for the CUDA fbgemm by name. The CUDA and the CPU fbgemm share one import folder, and the CUDA one
  cannot even be imported beside a CPU torch. So the locks are complete and are installed without resolving
  dependencies.
- torch comes first and with its dependencies: where PyTorch's CPU index cannot be reached it is the CUDA build that pip
  finds, which needs its own CUDA packages and then works on a CPU too.
- The flavour is cpu until FLAVOUR=gpu is given once; later runs keep it. A driver alone does not choose gpu: those
  packages are several gigabytes and need a driver of their CUDA version.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LOCKS = Path(__file__).resolve().parent
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
FBGEMM = {"cpu": "fbgemm-gpu-cpu", "gpu": "fbgemm-gpu"}
OFFLINE = (
    "The network or the package index cannot be reached. Behind a mirror or proxy, tell pip of it with `pip config`."
)
HINTS = {  # what the output says -> what to do about it; the first that fits
    "No space left on device": "The disk is full. The CPU flavour needs about 2 GB, with CUDA packages about 8 GB.",
    "ensurepip": (
        "This Python cannot make virtual environments: "
        "install its venv package (Debian, Ubuntu: apt install python3-venv)."
    ),
    "CERTIFICATE_VERIFY_FAILED": (
        "The certificate of the package index is not trusted: set PIP_CERT to your organisation's bundle."
    ),
    "name resolution": OFFLINE,
    "new connection": OFFLINE,
    "from versions: none": f"{OFFLINE} Or it has no wheels for this machine: Linux on x86-64 is what is tested.",
    "No matching distribution found": "The package index lacks this version: a mirror that is behind?",
    "checks failed": "The packages are installed but do not work here; the arrows say what to do.",
}


class SetupError(Exception):
    """Set-up cannot go on; the message is for the person at the terminal."""


class Stamp(NamedTuple):
    """What was installed last. fingerprint: of everything that decides what is installed."""

    flavour: str
    fingerprint: str


def main(arguments: list[str] | None = None) -> int:
    """Install; returns 0, or 1 after saying what is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--venv", type=Path, default=ROOT / ".venv", help="the virtual environment to make or to bring up to date"
    )
    parser.add_argument(
        "--flavour", choices=["cpu", "gpu", ""], default="", help="default: the one installed before, else cpu"
    )
    options = parser.parse_args(arguments)
    try:
        check_python(sys.version_info[:2])
        setup(options.venv.absolute(), options.flavour)
    except SetupError as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 1
    return 0


def check_python(version: tuple[int, int]) -> None:
    """Raise SetupError unless wheels of every package exist for this Python."""
    if version not in ((3, 11), (3, 12)):
        pythons = [p for p in ("python3.11", "python3.12") if shutil.which(p)]
        hint = (
            f"run `make setup PYTHON={pythons[-1]}`"
            if pythons
            else "install one and run `make setup PYTHON=python3.12`"
        )
        raise SetupError(f"Python 3.11 or 3.12 is needed, but {sys.executable} is {version[0]}.{version[1]}; {hint}")


def setup(venv: Path, flavour: str) -> None:
    """Bring `venv` to the locked state of `flavour` ("" keeps the flavour installed before). Raises SetupError."""
    before = read_stamp(venv)
    flavour = flavour or (before.flavour if before else "cpu")
    now = Stamp(flavour, fingerprint(flavour))
    if before == now and (venv / "bin" / "python").exists() and not differences(venv, flavour):
        print(f"set-up: {venv.name} is up to date ({flavour} flavour)")
        return
    python = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    print(f"set-up: {venv}, {python}, {flavour} flavour (a few minutes the first time)", flush=True)
    if flavour == "cpu" and Path("/proc/driver/nvidia/version").exists():
        print("        an NVIDIA driver is here: `make setup FLAVOUR=gpu` would install the CUDA packages instead")
    make_venv(venv)
    remove_conflicts(venv, flavour)
    step("torch", lambda: install_torch(venv, flavour))
    step(
        "all other packages, as locked", lambda: pip(venv, "install", "--no-deps", "-r", str(LOCKS / f"{flavour}.txt"))
    )
    step("the swrec command", lambda: pip(venv, "install", "--no-deps", "--no-build-isolation", "-e", str(ROOT)))
    step("check that it works together", lambda: run(venv, [str(venv / "bin" / "python"), "-m", "swrec_prod.doctor"]))
    (venv / ".setup.stamp").write_text(json.dumps(now._asdict()))
    print(f"set-up: done; {venv.name}/bin/swrec --help", flush=True)


def read_stamp(venv: Path) -> Stamp | None:
    """What the last complete set-up installed; None when there was none."""
    try:
        return Stamp(**json.loads((venv / ".setup.stamp").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def fingerprint(flavour: str) -> str:
    """A digest of everything that decides what is installed:
    Python, locks, this file, and the project's own metadata.
    """
    import tomllib  # not in Pythons that check_python refuses

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    parts = [
        str(sys.version_info[:2]),
        flavour,
        Path(__file__).read_text(),
        json.dumps([project["build-system"], project["project"]]),
    ]
    parts += [(LOCKS / name).read_text() for name in ("shared.txt", f"{flavour}.txt")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def pins(text: str) -> dict[str, str]:
    r"""name -> version of the unconditional `name==version` lines of a lock file.

    >>> pins("a-b==1.2  # via c\nwin==3 ; sys_platform == 'win32'\ntorch==2.0,!=2.0+cpu")
    {'a-b': '1.2', 'torch': '2.0'}
    """
    return dict(re.findall(r"^([a-z0-9.-]+)==([^\s,;]+)[^;\n]*$", text, re.MULTILINE))


def installed(venv: Path) -> dict[str, str]:
    """name -> version of what lies in `venv`; names in lower case with dashes."""
    site = [str(p) for p in venv.glob("lib/python*/site-packages")]
    return {re.sub(r"[-_.]+", "-", d.name).lower(): d.version for d in distributions(path=site)}


def differences(venv: Path, flavour: str) -> list[str]:
    """Names of packages that are not as locked, so that a changed environment is mended although its stamp is right."""
    have = installed(venv)
    want = pins((LOCKS / "shared.txt").read_text()) | pins((LOCKS / f"{flavour}.txt").read_text())
    wrong = [name for name, version in want.items() if have.get(name, "").partition("+")[0] != version]
    return wrong + conflicts(venv, flavour)


def conflicts(venv: Path, flavour: str) -> list[str]:
    """Packages to remove before installing `flavour`: a wrong or damaged fbgemm, and for gpu a CPU-only torch.

    Both fbgemm own the same files: installing one over the other and removing it again leaves a package without its
    files.
    """
    have = installed(venv)
    other = FBGEMM["gpu" if flavour == "cpu" else "cpu"]
    whole = any(venv.glob("lib/python*/site-packages/fbgemm_gpu/__init__.py"))
    conflicting = [name for name in FBGEMM.values() if name in have and (other in have or not whole)]
    if flavour == "gpu" and have.get("torch", "").endswith("+cpu"):
        conflicting.append("torch")
    return conflicting


def make_venv(venv: Path) -> None:
    """Make `venv`, or make it anew when it is of another Python version.

    Raises SetupError when the folder is something else.
    """
    config = venv / "pyvenv.cfg"
    if venv.exists() and not config.exists() and any(venv.iterdir()):
        raise SetupError(f"{venv} exists and is not a virtual environment; remove it or give --venv another folder")
    pip_of_this_python = venv / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages" / "pip"
    if pip_of_this_python.exists() and (venv / "bin" / "python").exists():
        return
    venv.mkdir(parents=True, exist_ok=True)
    step("virtual environment", lambda: run(venv, [sys.executable, "-m", "venv", "--clear", str(venv)]))


def remove_conflicts(venv: Path, flavour: str) -> None:
    """Uninstall what cannot be installed beside `flavour`."""
    conflicting = conflicts(venv, flavour)
    if conflicting:
        step(f"remove {', '.join(conflicting)}", lambda: pip(venv, "uninstall", "-y", *conflicting))


def install_torch(venv: Path, flavour: str) -> None:
    """Install the torch that the flavour's file names,
    the small CPU build where an index that has it can be reached.
    """
    line = next(line for line in (LOCKS / f"{flavour}.txt").read_text().splitlines() if line.startswith("torch=="))
    command = ["install", line, "-c", str(LOCKS / "shared.txt")]
    index = os.environ.get("SWREC_TORCH_INDEX", TORCH_CPU_INDEX).rstrip("/")
    if flavour == "cpu" and index and reachable(index + "/torch/"):
        try:
            return pip(venv, *command, "--extra-index-url", index)
        except SetupError:
            print("\n        the torch index answers but does not deliver; trying without it", flush=True)
    return pip(venv, *command)


def reachable(url: str, timeout: float = 5.0) -> bool:
    """Whether `url` answers within `timeout` seconds."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout):
            return True
    except (urllib.error.URLError, OSError, ValueError):
        return False


def step(name: str, work: Callable[[], None]) -> None:
    """Do `work`, printing its name before and the seconds it took after."""
    print(f"  {name} ...", end="", flush=True)
    start = time.monotonic()
    try:
        work()
    except SetupError:
        print(" failed", flush=True)
        raise
    print(f" {time.monotonic() - start:.0f} s", flush=True)


def pip(venv: Path, *arguments: str) -> None:
    """Run the environment's pip, its own configuration (mirrors, local wheels) left in force."""
    run(venv, [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments])


def run(venv: Path, command: list[str]) -> None:
    """Run `command`, its output kept in setup.log.

    Raises SetupError with the end of the output and, where known, a remedy.
    """
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=ROOT, check=False
    )
    log = venv / "setup.log"
    with log.open("a") as file:
        file.write(f"$ {' '.join(command)}\n{done.stdout}\n")
    if done.returncode:
        raise SetupError(explain(done.stdout, log))


def explain(output: str, log: Path) -> str:
    """The end of a failed command's output, with a remedy where the cause is a known one."""
    tail = "\n".join("    | " + line for line in output.strip().splitlines()[-15:])
    hint = next(
        (text for sign, text in HINTS.items() if sign in output), "The lines above say why; running it again is safe."
    )
    return f"the last lines of {log}:\n{tail}\n{hint}"


if __name__ == "__main__":
    sys.exit(main())
