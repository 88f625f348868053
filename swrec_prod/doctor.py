"""`swrec doctor`: what is wrong with this machine's installation, in plain words.

torch, torchrec and fbgemm are compiled against each other; a wrong mix dies with `undefined symbol` or a missing
`libtorch_cuda.so`. Versions are therefore read from package metadata first, and only then is anything imported.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

MATCHING_SETS = (  # (torch, fbgemm, torchrec), major.minor; the first is the one that is locked and tested
    ("2.13", "1.8", "1.8"),
    ("2.14", "1.9", "1.9"),
    ("2.12", "1.7", "1.7"),
    ("2.11", "1.6", "1.6"),
)
TRIO = ("torch", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu")
LIBRARIES = ("pyarrow", "numpy", "grpcio", "protobuf", "torchx")
REINSTALL = "run `make setup`"
TO_CPU = "run `make setup FLAVOUR=cpu`"
TO_GPU = "run `make setup FLAVOUR=gpu`"
REBUILD = "run `rm -rf .venv && make setup`"


class Finding(NamedTuple):
    """The result of one check. remedy: what to do, or "" for nothing; where `ok` is True it is advice."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def main() -> int:
    """Print the diagnosis. Returns 0 when everything works, 2 when there is something to mend."""
    findings = diagnose()
    print(render(findings))
    return 0 if all(f.ok for f in findings) else 2


def diagnose() -> list[Finding]:
    """Look at Python, the trio, its kernels, the GPU, threads and libraries of this process. Never raises."""
    versions = installed((*TRIO, *LIBRARIES, "numba", "pyspark"))
    return [
        check_python(sys.version_info[:2]),
        check_trio(versions),
        check_flavour(versions),
        check_kernels(),
        check_gpu(versions),
        check_threads(os.environ, available_cores()),
        check_libraries(versions),
        check_numba(versions),
        check_cluster(versions, bool(os.environ.get("JAVA_HOME") or shutil.which("java"))),
    ]


def render(findings: list[Finding]) -> str:
    """The findings as aligned lines: ok, note (works, but see the advice) or FAIL, each with what to do."""
    lines = []
    for finding in findings:
        mark = ("note" if finding.remedy else "ok") if finding.ok else "FAIL"
        lines.append(f"{mark:<5}{finding.name:<10}{finding.detail}")
        if finding.remedy:
            lines.append(f"{'':<15}-> {finding.remedy}")
    failed = sum(not f.ok for f in findings)
    lines.append(f"{failed} of {len(findings)} checks failed" if failed else "everything works")
    return "\n".join(lines)


def installed(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of those of `names` that are installed, from their metadata: nothing is imported."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def check_python(running: tuple[int, int]) -> Finding:
    """Python 3.11 or 3.12, for which all wheels exist."""
    ok = (3, 11) <= running <= (3, 12)
    return Finding(
        "python", ok, f"{running[0]}.{running[1]}", "" if ok else "run `make setup PYTHON=python3.12`; 3.11 will do too"
    )


def check_trio(versions: Mapping[str, str]) -> Finding:
    """Whether torch, fbgemm and torchrec are of one matching set.

    versions: by distribution name, absent ones left out.
    """
    fbgemm = versions.get("fbgemm-gpu-cpu") or versions.get("fbgemm-gpu")
    have = {"torch": versions.get("torch"), "fbgemm": fbgemm, "torchrec": versions.get("torchrec")}
    detail = ", ".join(f"{name} {value or 'missing'}" for name, value in have.items())
    missing = [name for name, value in have.items() if value is None]
    if missing:
        return Finding("trio", False, detail, f"{' and '.join(missing)} not installed: {REINSTALL}")
    minor = tuple(".".join(str(value).split(".")[:2]) for value in have.values())
    if minor in MATCHING_SETS:
        return Finding("trio", True, detail)
    beside = next((s for s in MATCHING_SETS if s[0] == minor[0]), None)
    right = f"torch {beside[0]} goes with fbgemm {beside[1]} and torchrec {beside[2]}" if beside else _all_sets()
    return Finding("trio", False, f"{detail}: these do not fit together", f"{right}; {REINSTALL} for the tested set")


def cuda_kernels(versions: Mapping[str, str]) -> bool:
    """Whether fbgemm can compute on a GPU. Beside the CPU flavour, the CUDA one may have lost its files to it."""
    return "fbgemm-gpu" in versions and "fbgemm-gpu-cpu" not in versions


def check_flavour(versions: Mapping[str, str]) -> Finding:
    """Whether one fbgemm is installed, and the one that suits this torch."""
    cpu, gpu = "fbgemm-gpu-cpu" in versions, "fbgemm-gpu" in versions
    torch = versions.get("torch", "missing")
    if cpu and gpu:
        detail = "both fbgemm-gpu (CUDA) and fbgemm-gpu-cpu are installed and overwrite each other's files"
        return Finding("flavour", False, detail, f"{REINSTALL}; never `pip install torchrec` without --no-deps")
    if gpu and torch.endswith("+cpu"):
        detail = f"fbgemm-gpu is for CUDA, but torch {torch} is for CPU only"
        return Finding("flavour", False, detail, f"{TO_CPU}, or FLAVOUR=gpu on a machine with a GPU")
    return Finding(
        "flavour",
        cpu or gpu,
        "CPU kernels" if cpu else "CUDA kernels" if gpu else "no fbgemm",
        "" if cpu or gpu else REINSTALL,
    )


def check_kernels() -> Finding:
    """Import the trio for real and run one of its kernels."""
    logging.disable(logging.ERROR)  # fbgemm logs what it then raises
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import fbgemm_gpu  # noqa: F401
            import torch
            import torchrec  # noqa: F401

            offsets = torch.ops.fbgemm.asynchronous_complete_cumsum(torch.tensor([2, 0, 3])).tolist()
    except Exception as error:  # whatever a broken binary raises is the finding
        return Finding("kernels", False, *explain(error))
    finally:
        logging.disable(logging.NOTSET)
    ok = offsets == [0, 2, 2, 5]
    return Finding(
        "kernels", ok, "an fbgemm kernel ran" if ok else f"an fbgemm kernel returned {offsets}", "" if ok else REBUILD
    )


def explain(error: BaseException) -> tuple[str, str]:
    """Detail and remedy of an exception that importing or using the trio raised."""
    while error.__cause__ is not None:  # torch wraps the linker's message, which is the one that tells
        error = error.__cause__
    text = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError):
        return f"module {error.name} is not installed", REINSTALL
    if "undefined symbol" in text:
        return f"torch and fbgemm were built for different versions ({text})", f"install a matching set: {REINSTALL}"
    if "libtorch_cuda" in text:
        return f"the CUDA fbgemm sits beside a CPU-only torch ({text})", REBUILD
    if "libcuda.so" in text or "libnvidia-ml" in text:
        return (
            f"the CUDA fbgemm needs an NVIDIA driver, and this machine has none ({text})",
            f"{TO_CPU}, or install the driver",
        )
    if isinstance(error, AttributeError) and "fbgemm" in text:
        return f"fbgemm's kernels did not load: its files are damaged or of another version ({text})", REBUILD
    return f"{type(error).__name__}: {text}", REBUILD


def check_gpu(versions: Mapping[str, str]) -> Finding:
    """Whether torch sees a GPU, and whether training will use it (train/distributed.py decides by the same kernels)."""
    try:
        import torch

        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    except Exception as error:  # a broken torch is reported by check_kernels; a broken driver here
        return Finding("gpu", True, f"none can be seen ({' '.join(str(error).split())})")
    if not names:
        return Finding("gpu", True, "none: everything runs on the CPU")
    if cuda_kernels(versions):
        return Finding("gpu", True, f"{', '.join(names)}: training uses it")
    return Finding("gpu", True, f"{', '.join(names)}: left idle, training runs on the CPU", f"{TO_GPU} to train on it")


def check_threads(environment: Mapping[str, str], cores: int) -> Finding:
    """OpenMP settings of this process. A spinning wait makes steps many times slower on a busy machine."""
    threads, policy = environment.get("OMP_NUM_THREADS"), environment.get("OMP_WAIT_POLICY")
    detail = f"{cores} cores, OMP_NUM_THREADS {threads or 'not set'}, OMP_WAIT_POLICY {policy or 'not set'}"
    advice = []
    if (policy or "").lower() != "passive":
        advice.append("export OMP_WAIT_POLICY=passive before starting Python")
    if threads and threads.isdigit() and int(threads) > cores:
        advice.append(f"OMP_NUM_THREADS should be at most {cores}")
    return Finding("threads", True, detail, "; ".join(advice))


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_libraries(versions: Mapping[str, str]) -> Finding:
    """The libraries beside the trio that no stage works without."""
    missing = [name for name in LIBRARIES if name not in versions]
    detail = ", ".join(f"{name} {versions.get(name, 'missing')}" for name in LIBRARIES)
    return Finding(
        "libraries", not missing, detail, f"{' and '.join(missing)} not installed: {REINSTALL}" if missing else ""
    )


def check_numba(versions: Mapping[str, str]) -> Finding:
    """What compiles the search of M-scan's packages, which are scored without it too."""
    if "numba" in versions:
        return Finding("numba", True, f"numba {versions['numba']}")
    return Finding("numba", True, "no numba: large requests to M-scan take twice the time", REINSTALL)


def check_cluster(versions: Mapping[str, str], java: bool) -> Finding:
    """What `--engine cluster` needs; nothing else does, so that its absence is no fault."""
    spark = f"pyspark {versions['pyspark']}" if "pyspark" in versions else "no pyspark (`make cluster` installs it)"
    usable = "pyspark" in versions and java
    detail = f"{spark}, {'Java found' if java else 'no Java (17 is needed)'}"
    return Finding(
        "cluster", True, detail if usable else f"{detail}: `--engine cluster` cannot be used here, `local` can"
    )


def _all_sets() -> str:
    return "matching sets of torch/fbgemm/torchrec are " + ", ".join("/".join(s) for s in MATCHING_SETS)


if __name__ == "__main__":
    sys.exit(main())
