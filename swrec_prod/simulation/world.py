"""What a simulation is made from: its parameters,
and a world of users, items and scenarios that stands before the first day.

Shapes: U users, I items, S scenarios, C categories, G user segments, K factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from statistics import NormalDist

import numpy as np
import pydantic

from swrec_prod.strict import Strict

FACTORS = 8
SEGMENTS = 16
# the logging policy's category probabilities are whole multiples of 1/256, so propensities are exact
POLICY_SLOTS = 256
ITEM_SLOTS = 8  # slots an item has in its category on average: its share of exposure is a whole number of them
MAX_CATEGORIES, ITEMS_PER_CATEGORY = 32, 30
CITIES, FREE_TAGS = 200, 100
# logit of the interest in an average item; the policy shows better ones: about one impression in twelve is liked
BASE = -4.2
DIRECT_SPREAD = 1.6  # standard deviation of the scenarios' direct effects, in logits, at --direct-effect 1
UNBORN = 0.3  # share of items that appear after day 0, at --drift 1

# The purposes of random numbers: each has a stream of its own, so that a change of one does not move the others.
WORLD, DAY, PART, NIGHT = range(4)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


class Simulation(Strict):
    """All parameters; the same ones give the same log. Errors name them as the command's options.

    days, rows_per_day: size of the log. users, items: default a twentieth and a fiftieth of the rows a day.
    direct_effect: scale of the scenario's influence on the click beside that on interest; 0 means none.
    drift: scale of what moves from day to day: tastes, qualities, new items. habit: how much a click draws the user to
    the item's category on the following days. random_exposure: share of requests whose items are drawn uniformly.
    history_length: of the history in the data file; the log does not depend on it.
    """

    model_config = pydantic.ConfigDict(alias_generator=_option, populate_by_name=True)

    days: int = pydantic.Field(ge=1, le=10_000)
    rows_per_day: int = pydantic.Field(ge=10, le=10**9)
    scenarios: int = pydantic.Field(ge=2, le=1000)
    seed: int = pydantic.Field(ge=0)
    users: int | None = pydantic.Field(None, ge=SEGMENTS, le=10**8)
    items: int | None = pydantic.Field(None, ge=2 * ITEMS_PER_CATEGORY, le=10**8)
    direct_effect: float = pydantic.Field(1.0, ge=0, le=10)
    drift: float = pydantic.Field(1.0, ge=0, le=3)
    habit: float = pydantic.Field(1.0, ge=0, le=10)
    conversions: bool = False
    random_exposure: float = pydantic.Field(0.0, ge=0, le=1)
    start: date = pydantic.Field(date(2024, 1, 1), ge=date(1971, 1, 1), le=date(2100, 1, 1))
    history_length: int = pydantic.Field(50, ge=1)

    @property
    def num_users(self) -> int:
        """U."""
        return self.users or max(SEGMENTS, self.rows_per_day // 20)

    @property
    def num_items(self) -> int:
        """I."""
        return self.items or max(2 * ITEMS_PER_CATEGORY, self.rows_per_day // 50)

    def stream(self, *purpose: int) -> np.random.Generator:
        """The random numbers of one purpose; they depend on it and the seed alone."""
        return np.random.Generator(np.random.SFC64(np.random.SeedSequence(self.seed, spawn_key=purpose)))


@dataclass(frozen=True)
class Users:
    """Users before the first day. dealt: every user, repeated in proportion to their activity, to draw from."""

    taste_UK: np.ndarray
    segment_U: np.ndarray
    gender_U: np.ndarray
    age_U: np.ndarray
    city_U: np.ndarray
    favourite_U: np.ndarray
    sway_U: np.ndarray
    dealt: np.ndarray


@dataclass(frozen=True)
class Items:
    """Items. slots_I: the item's popularity; birth_I: the day it appears; tags: (lengths [I], values)."""

    factors_IK: np.ndarray
    category_I: np.ndarray
    brand_I: np.ndarray
    price_I: np.ndarray
    quality_I: np.ndarray
    slots_I: np.ndarray
    birth_I: np.ndarray
    tags: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Scenarios:
    """Scenarios, busiest first. weight, theme: S -> M. direct, peak (hour): S -> Y."""

    cdf_S: np.ndarray
    weight_SK: np.ndarray
    theme_SC: np.ndarray
    direct_S: np.ndarray
    peak_S: np.ndarray


@dataclass(frozen=True)
class World:
    """policy: the logging policy for each (segment, scenario):
    counts [G * S, C] out of POLICY_SLOTS, and the categories dealt.
    """

    users: Users
    items: Items
    scenarios: Scenarios
    policy_counts: np.ndarray
    policy_dealt: np.ndarray

    @property
    def num_categories(self) -> int:
        """C."""
        return self.policy_counts.shape[1]


def make_world(options: Simulation) -> World:
    """Draw the world. It does not depend on days."""
    draw = options.stream(WORLD)
    num_categories = min(MAX_CATEGORIES, options.num_items // ITEMS_PER_CATEGORY)
    centre_CK = _normal(draw, num_categories, FACTORS)
    scenarios = _scenarios(draw, options, num_categories)
    users = _users(draw, options, scenarios)
    items = _items(draw, options, centre_CK)
    counts = _policy(draw, users, scenarios, centre_CK)
    dealt = np.repeat(np.tile(np.arange(num_categories, dtype=np.uint8), len(counts)), counts.ravel())
    return World(users, items, scenarios, counts, dealt.reshape(-1, POLICY_SLOTS))


def _scenarios(draw: np.random.Generator, options: Simulation, num_categories: int) -> Scenarios:
    """Traffic by Zipf's law; direct effects are evenly spaced quantiles of a normal distribution,
    in an order independent of traffic.
    """
    S = options.scenarios
    traffic = 1 / np.arange(1, S + 1)
    theme_SC = 0.6 * _normal(draw, S, num_categories)
    spread = np.array([NormalDist().inv_cdf((s + 0.5) / S) for s in range(S)])
    spread = DIRECT_SPREAD * spread / spread.std()
    return Scenarios(
        cdf_S=np.cumsum(traffic) / traffic.sum(),
        weight_SK=(1 + 0.5 * _normal(draw, S, FACTORS)).astype(np.float32),
        theme_SC=(theme_SC - theme_SC.mean(1, keepdims=True)).astype(np.float32),
        direct_S=draw.permutation(spread).astype(np.float32),
        peak_S=draw.uniform(0, 24, S).astype(np.float32),
    )


def _users(draw: np.random.Generator, options: Simulation, scenarios: Scenarios) -> Users:
    """Segment, gender and age depend on tastes, city does not."""
    U = options.num_users
    taste_UK = _normal(draw, U, FACTORS)
    active = np.exp(draw.normal(size=U))
    return Users(
        taste_UK=taste_UK,
        segment_U=(taste_UK @ _normal(draw, FACTORS, SEGMENTS)).argmax(1),
        gender_U=(taste_UK[:, 0] + _normal(draw, U) > 0).astype(np.int8),
        age_U=np.clip(38 + 8 * (taste_UK[:, 1] + _normal(draw, U)), 16, 90).astype(np.float32),
        city_U=(CITIES * draw.random(U) ** 3).astype(np.int32),
        favourite_U=np.searchsorted(scenarios.cdf_S, draw.random(U)),
        sway_U=_normal(draw, U),
        dealt=np.repeat(np.arange(U), 1 + (ITEM_SLOTS * active / active.mean()).astype(np.int64)),
    )


def _items(draw: np.random.Generator, options: Simulation, centre_CK: np.ndarray) -> Items:
    """Items lie around their category's centre; quality depends on brand, price and, a little, goes with popularity."""
    I, C = options.num_items, len(centre_CK)
    category_I = draw.permutation(np.arange(I) % C)
    factors_IK = 0.8 * centre_CK[category_I] + 0.6 * _normal(draw, I, FACTORS)
    rank_I = np.empty(I, np.int64)  # of popularity, inside the category
    rank_I[np.argsort(category_I, kind="stable")] = np.concatenate(
        [draw.permutation(n) for n in np.bincount(category_I)]
    )
    popularity_I = 1 / (rank_I + 10)  # Zipf-Mandelbrot: no item takes a tenth of its category
    per_category = 4
    brand_I = category_I * per_category + draw.integers(0, per_category, I)
    price_z = _normal(draw, I)
    known = (np.log(popularity_I) - np.log(popularity_I).mean()) / np.log(popularity_I).std()
    quality_I = 0.3 * _normal(draw, C * per_category)[brand_I] - 0.2 * price_z + 0.2 * known + 0.4 * _normal(draw, I)
    later = (draw.random(I) < UNBORN * min(options.drift, 1)) & (rank_I >= ITEMS_PER_CATEGORY // 3)
    return Items(
        factors_IK=factors_IK.astype(np.float32),
        category_I=category_I.astype(np.int32),
        brand_I=brand_I.astype(np.int32),
        price_I=np.exp(3 + 0.7 * price_z).astype(np.float32),
        quality_I=quality_I.astype(np.float32),
        slots_I=1 + (ITEM_SLOTS * popularity_I / popularity_I.mean()).astype(np.int64),
        birth_I=np.where(later, 1 + draw.exponential(7, I).astype(np.int64), 0),
        tags=_tags(draw, factors_IK),
    )


def _tags(draw: np.random.Generator, factors_IK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One free tag without meaning, and one for each factor in which the item is far out; one to K + 1 an item."""
    has = np.concatenate([np.ones((len(factors_IK), 1), bool), np.abs(factors_IK) > 1], axis=1)
    free = 2 * FACTORS + draw.integers(0, FREE_TAGS, (len(factors_IK), 1))
    tags = np.concatenate([free, 2 * np.arange(FACTORS) + (factors_IK > 0)], axis=1)
    return has.sum(1), tags[has].astype(np.int32)


def _policy(draw: np.random.Generator, users: Users, scenarios: Scenarios, centre_CK: np.ndarray) -> np.ndarray:
    """Counts [G * S, C]: the logging policy's belief, with errors, about what a segment likes in a scenario;
    every category has at least one.
    """
    members = np.bincount(users.segment_U, minlength=SEGMENTS)[:, None]
    total = np.stack([np.bincount(users.segment_U, column, SEGMENTS) for column in users.taste_UK.T], axis=1)
    taste_GK = total / np.maximum(members, 1)
    liking = (
        np.einsum("gk,sk,ck->gsc", taste_GK, scenarios.weight_SK, centre_CK) / np.sqrt(FACTORS) + scenarios.theme_SC
    )
    believed = liking.reshape(-1, len(centre_CK)) + 0.3 * draw.normal(
        size=(len(taste_GK) * len(scenarios.cdf_S), len(centre_CK))
    )
    weights = np.exp(believed)
    return apportion(weights / weights.sum(1, keepdims=True), POLICY_SLOTS)


def apportion(shares: np.ndarray, total: int) -> np.ndarray:
    """Whole counts [N, C] of at least 1 that sum to `total` in each row, near `shares` [N, C] (largest remainders)."""
    wanted = shares * (total - shares.shape[1])
    counts = wanted.astype(np.int64)
    missing = total - shares.shape[1] - counts.sum(1, keepdims=True)
    order = np.argsort(np.argsort(counts - wanted, axis=1, kind="stable"), axis=1)
    return 1 + counts + (order < missing)


def _normal(draw: np.random.Generator, *shape: int) -> np.ndarray:
    return draw.standard_normal(shape, dtype=np.float32)
