"""docs/off_policy.md: its figures are those of the command that it names, on the real log."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.judging.open_bandit import (
    BEGIN,
    BTS_PRIOR,
    CACHE,
    END,
    PAGE,
    Campaign,
    campaigns,
    figures,
    of_the_log,
    of_the_prior,
)

FOLDER = CACHE / "open-bandit"


@pytest.fixture(scope="module")
def real() -> list[Campaign]:
    if not (FOLDER / BTS_PRIOR).is_file():
        pytest.skip("not fetched (`python -m benchmarks.judging.open_bandit` fetches it)")
    return campaigns(FOLDER)


def test_the_page_has_the_figures_of_its_command(real: list[Campaign]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0].strip() == figures(real)


def test_probabilities_of_a_position_sum_to_1(real: list[Campaign]) -> None:
    for campaign in real:
        for policy in (of_the_log(campaign), of_the_prior(campaign)):
            assert policy.shape == (3, campaign.items) and np.allclose(policy.sum(1), 1)


def test_at_first_thompson_sampling_is_its_prior(real: list[Campaign]) -> None:
    for campaign in real:
        first = campaign.bts.slice(0, 200)
        known = of_the_prior(campaign)[first["position"].to_numpy() - 1, first["item_id"].to_numpy()]
        assert np.corrcoef(known, first["propensity_score"].to_numpy())[0, 1] > 0.9
