"""The TorchX component of backfills: replicas that share the days."""

from __future__ import annotations

from runs import ROOT
from torchx.runner import get_runner
from torchx.specs import AppDef
from torchx.specs.finder import get_component

from swrec_prod.judge.backfill import Share

COMPONENT = str(ROOT / "launch" / "components.py") + ":backfill"


def app_of(*words: str) -> AppDef:
    """What the component makes of these words of a command line."""
    with get_runner() as runner:
        return runner.dryrun_component(COMPONENT, list(words), scheduler="local_cwd")._app  # type: ignore[union-attr,return-value]


def test_every_replica_does_its_share_of_the_same_command() -> None:
    words = ("build/runs/mscan", "--days", "2000-12-01..", "--out", "build/days")
    [role] = app_of("--replicas", "3", "--cpu", "4", "--retries", "2", "--", *words).roles
    assert role.args[:-2] == ["-m", "swrec_prod.cli", "backfill", *words]
    assert role.args[-2:] == ["--share", "${replica_id}/3"]
    assert (role.num_replicas, role.max_retries, role.resource.cpu, role.env["OMP_NUM_THREADS"]) == (3, 2, 4, "4")


def test_the_shares_are_all_of_the_work_once() -> None:
    parts = [Share.parse(f"{at}/3").part(job, 2) for at in range(3) for job in range(2)]
    done = [number for share in parts for number in range(100)[share.at :: share.of]]
    assert sorted(done) == list(range(100))


def test_the_components_help_explains_every_argument() -> None:
    assert get_component(COMPONENT).validation_errors == []
