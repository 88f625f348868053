"""`swrec doctor` names what is wrong with an installation, for any mix of versions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swrec_prod.doctor import (
    MATCHING_SETS,
    Finding,
    check_cluster,
    check_flavour,
    check_gpu,
    check_numba,
    check_python,
    check_threads,
    check_trio,
    diagnose,
    explain,
    main,
    render,
)
from swrec_prod.train.distributed import pick_device


def trio(pytorch: str, fbgemm: str, torchrec: str, flavour: str = "fbgemm-gpu-cpu") -> dict[str, str]:
    return {"torch": pytorch, flavour: fbgemm, "torchrec": torchrec}


@pytest.mark.parametrize(
    "versions",
    [
        trio("2.13.0+cpu", "1.8.0", "1.8.0"),
        trio("2.13.0+cu130", "1.8.0+cu130", "1.8.0", "fbgemm-gpu"),
        trio("2.14.1", "1.9.0", "1.9.0", "fbgemm-gpu"),
        trio("2.12.0", "1.7.0", "1.7.0"),
        trio("2.11.0+cpu", "1.6.0", "1.6.1"),
    ],
)
def test_matching_sets_pass(versions: dict[str, str]) -> None:
    assert check_trio(versions).ok and check_flavour(versions).ok


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        (trio("2.13.0", "1.7.0", "1.8.0"), "torch 2.13 goes with fbgemm 1.8 and torchrec 1.8"),
        (trio("2.13.0", "1.8.0", "1.6.1"), "torch 2.13 goes with fbgemm 1.8 and torchrec 1.8"),
        (trio("2.12.1", "1.8.0", "1.8.0"), "torch 2.12 goes with fbgemm 1.7 and torchrec 1.7"),
        (trio("2.1.3", "1.8.0", "1.8.0"), "2.13/1.8/1.8, 2.14/1.9/1.9"),
        ({"torch": "2.13.0", "torchrec": "1.8.0"}, "fbgemm not installed"),
        ({}, "torch and fbgemm and torchrec not installed"),
    ],
)
def test_a_mismatch_is_named_with_what_would_be_right(versions: dict[str, str], said: str) -> None:
    finding = check_trio(versions)
    assert not finding.ok
    assert said in finding.remedy and "make setup" in finding.remedy


@given(st.tuples(*(st.sampled_from([s[i] for s in MATCHING_SETS]) for i in range(3))), st.integers(0, 9))
def test_only_the_listed_sets_match(minor: tuple[str, ...], patch: int) -> None:
    pytorch, fbgemm, torchrec = (f"{m}.{patch}" for m in minor)
    assert check_trio(trio(pytorch, fbgemm, torchrec)).ok == (minor in MATCHING_SETS)


def test_both_fbgemm_are_found_although_their_versions_match() -> None:
    both = {**trio("2.13.0+cpu", "1.8.0", "1.8.0"), "fbgemm-gpu": "1.8.0"}
    finding = check_flavour(both)
    assert not finding.ok and "overwrite each other" in finding.detail and "--no-deps" in finding.remedy


def test_cuda_fbgemm_beside_a_cpu_torch_is_found() -> None:
    finding = check_flavour(trio("2.13.0+cpu", "1.8.0", "1.8.0", "fbgemm-gpu"))
    assert not finding.ok and "CUDA" in finding.detail and "FLAVOUR=cpu" in finding.remedy


@pytest.mark.parametrize(
    ("message", "said", "remedy"),
    [
        ("fbgemm_gpu_py.so: undefined symbol: _ZN3c105ErrorC2", "built for different versions", "make setup"),
        ("libtorch_cuda.so: cannot open shared object file", "beside a CPU-only torch", "rm -rf .venv && make setup"),
        ("libnvidia-ml.so.1: cannot open shared object file", "needs an NVIDIA driver", "FLAVOUR=cpu"),
        (
            "libomp.so: cannot open\n shared object file",
            "libomp.so: cannot open shared object file",
            "rm -rf .venv && make setup",
        ),
    ],
)
def test_loader_errors_become_plain_words(message: str, said: str, remedy: str) -> None:
    outer = OSError("Could not load this library: fbgemm_gpu_py.so")
    outer.__cause__ = OSError(message)
    for error in (ImportError(message), outer):
        detail, advice = explain(error)
        assert said in detail and remedy in advice and "\n" not in detail


def test_missing_module_is_named() -> None:
    assert (
        explain(ModuleNotFoundError("No module named 'torchrec'", name="torchrec"))[0]
        == "module torchrec is not installed"
    )


@pytest.mark.parametrize(
    ("version", "ok"), [((3, 10), False), ((3, 11), True), ((3, 12), True), ((3, 13), False), ((2, 7), False)]
)
def test_python_versions(version: tuple[int, int], ok: bool) -> None:
    assert check_python(version).ok is ok


@pytest.mark.parametrize(
    ("environment", "advice"),
    [
        ({"OMP_WAIT_POLICY": "PASSIVE"}, ""),
        ({"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "2"}, ""),
        ({}, "OMP_WAIT_POLICY=passive"),
        ({"OMP_WAIT_POLICY": "active"}, "OMP_WAIT_POLICY=passive"),
        ({"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "64"}, "at most 2"),
    ],
)
def test_thread_settings_are_advice_and_not_failures(environment: dict[str, str], advice: str) -> None:
    finding = check_threads(environment, cores=2)
    assert finding.ok and advice in finding.remedy and bool(advice) == bool(finding.remedy)


@pytest.mark.parametrize(
    ("flavours", "said", "advice"),
    [
        (("fbgemm-gpu",), "A GPU: training uses it", ""),
        (("fbgemm-gpu-cpu",), "A GPU: left idle, training runs on the CPU", "FLAVOUR=gpu"),
        (("fbgemm-gpu", "fbgemm-gpu-cpu"), "left idle", "FLAVOUR=gpu"),
        ((), "left idle", "FLAVOUR=gpu"),
    ],
)
def test_what_becomes_of_a_gpu_is_said(
    monkeypatch: pytest.MonkeyPatch, flavours: tuple[str, ...], said: str, advice: str
) -> None:
    """And it is what training does: with the CPU kernels a GPU that torch sees is of no use."""
    versions = {name: "1.8.0" for name in flavours}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A GPU")
    monkeypatch.setattr("swrec_prod.train.distributed.installed", lambda _: versions)
    monkeypatch.setenv("LOCAL_RANK", "3")
    finding = check_gpu(versions)
    assert finding.ok and said in finding.detail and advice in finding.remedy
    assert str(pick_device()) == ("cpu" if advice else "cuda:3")


def test_without_a_gpu_training_is_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr("swrec_prod.train.distributed.installed", lambda _: {"fbgemm-gpu": "1.8.0"})
    assert pick_device().type == "cpu" and "on the CPU" in check_gpu({"fbgemm-gpu": "1.8.0"}).detail


@pytest.mark.parametrize(("versions", "java"), [({}, True), ({"pyspark": "4.3.0"}, False), ({}, False)])
def test_a_missing_cluster_engine_is_told_and_is_no_fault(versions: dict[str, str], java: bool) -> None:
    assert check_cluster({"pyspark": "4.3.0"}, True) == Finding("cluster", True, "pyspark 4.3.0, Java found")
    finding = check_cluster(versions, java)
    assert finding.ok and "cannot be used" in finding.detail and ("make cluster" in finding.detail) == (not versions)


def test_without_numba_it_is_said_what_is_slower() -> None:
    assert check_numba({"numba": "0.68.1"}) == Finding("numba", True, "numba 0.68.1")
    finding = check_numba({})
    assert finding.ok and "M-scan" in finding.detail and "make setup" in finding.remedy


def test_render_marks_failures_and_advice() -> None:
    text = render(
        [Finding("a", True, "fine"), Finding("b", True, "slow", "do x"), Finding("c", False, "broken", "do y")]
    )
    assert [line.split()[0] for line in text.splitlines()] == ["ok", "note", "->", "FAIL", "->", "1"]
    assert "everything works" in render([Finding("a", True, "fine")])


def test_this_environment_is_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0, capsys.readouterr().out
    assert "an fbgemm kernel ran" in capsys.readouterr().out


def test_diagnose_works_where_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swrec_prod.doctor.installed", lambda names: {})
    for name in ("torch", "torchrec", "fbgemm_gpu"):
        monkeypatch.setitem(__import__("sys").modules, name, None)  # an import of it raises ModuleNotFoundError
    failed = {f.name for f in diagnose() if not f.ok}
    assert failed == {"trio", "flavour", "kernels", "libraries"}
