"""A damaged package is refused by one kind of error, at the stage that can notice it, before it scores anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from damaged_packages import Damage, damaged, damages, say

from swrec_prod.errors import PackageError
from swrec_prod.export.package import verify_package
from swrec_prod.serving.scoring.predictor import Predictor

ALL = list(damages())


@pytest.fixture(scope="module")
def package(tiny_repo: Path) -> Path:
    return tiny_repo / "mscan" / "1"


def test_there_are_as_many_as_are_promised():
    assert len(ALL) >= 50 and len({damage.name for damage in ALL}) == len(ALL)


@pytest.mark.parametrize("damage", [d for d in ALL if d.stage != "files"], ids=lambda damage: damage.name)
def test_a_damaged_package_is_refused_at_the_stage_that_notices_it(damage: Damage, package: Path, tmp_path: Path):
    came_to: list[str] = []
    path = damaged(package, tmp_path / "mscan" / "2", damage)
    with pytest.raises(PackageError) as refused:
        Predictor.load(path, say=lambda stage, _: came_to.append(stage))
    assert came_to[-1] == damage.stage, refused.value
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_the_untouched_one_passes_every_stage(package: Path):
    came_to: list[str] = []
    Predictor.load(package, say=lambda stage, _: came_to.append(stage))
    assert came_to == ["validate", "load", "golden", "warm"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            {"debias_strength": {"home": float("nan")}},
            r"debias_strength.home is nan; expected a finite number from -?\d",
        ),
        ({"strength_range": [5.0, 1.0]}, r"strength_range is 5 to 1; expected finite numbers, the lower first"),
    ],
)
def test_what_is_wrong_with_c_is_named(entries, message, package, tmp_path):
    path = damaged(package, tmp_path / "mscan" / "2", Damage("c", "validate", lambda path: say(path, **entries)))
    with pytest.raises(PackageError, match=message):
        verify_package(path)
