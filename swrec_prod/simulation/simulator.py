"""A multi-scenario log whose causes are known: clicks follow the causal graph of M-scan (Zhu et al., WWW 2024, fig. 2).

For user u, item i of category c, scenario s, on day t, where w_s are the scenario's weights and * is by element:

    U, I, S -> M    m = BASE + GAIN <taste_u(t), w_s * factors_i> / sqrt(K) + theme_s,c + quality_i(t)
                        + HABIT habit a / (1 + a)
                    a = a_u,c(t): the user's clicks in the category on earlier days, halving from day to day (DECAY)
    S -> Y          d = direct_effect (direct_s + 0.2 sway_u + 0.2 sin(2 pi (hour - peak_s) / 24))
    M, S -> Y       P(click) = sigmoid(m + d)
    conversion      P(conversion | click) = sigmoid(-3.5 + 0.7 (m - BASE) - 0.3 log(price_i / 20))

m is the interest, a logit, and d the direct effect. The direct effect shifts the logit, so subtracting it gives back
the order of interest: what M-scan's y_m sigmoid(y_s) - c sigmoid(y_s) does when c sigmoid(y_s) is near d.

Exposure: a request is one user in one scenario at one time. The logging policy chooses each candidate's category by
what it believes of the user's segment in the scenario, and an item in it by popularity; a random request takes any item
alike. The propensity is the probability that a candidate of that request is that item. Requests of one day know nothing
of each other: what evolves (tastes, qualities, births, a) does so between days. Day t is a function of seed, parameters
and days before it.

Shapes: N rows and R requests of a day, U users, I items, S scenarios, C categories, K factors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import numpy as np

from swrec_prod.simulation.world import BASE, DAY, FACTORS, NIGHT, PART, POLICY_SLOTS, Simulation, World

PART_ROWS = 1 << 18  # rows of one part: it is drawn alone, so that parts of a day can be drawn side by side
CANDIDATES = (4, 11)  # of a request: 4 to 10
HOME = 0.5  # share of requests in the user's favourite scenario
GAIN, HABIT, DECAY = 1.2, 1.5, 0.5
DEVICE_CDF = np.array([0.72, 0.2, 0.08]).cumsum()
TRAFFIC_24 = np.array([3, 2, 1, 1, 1, 2, 4, 6, 7, 7, 7, 8, 9, 8, 7, 7, 7, 8, 9, 11, 12, 11, 8, 5], float)
HOUR = 3_600_000_000  # microseconds


@dataclass
class State:
    """What changes from day to day: tastes and qualities, whose spread stays the same, and a_u,c."""

    taste_UK: np.ndarray
    quality_I: np.ndarray
    clicks_UC: np.ndarray

    @classmethod
    def before(cls, world: World) -> State:
        """The state on day 0."""
        clicks = np.zeros((len(world.users.segment_U), world.num_categories), np.float32)
        return cls(world.users.taste_UK.copy(), world.items.quality_I.copy(), clicks)

    def next_day(self, day: Day, clicked: Iterable[np.ndarray]) -> None:
        """The night after `day`: its clicks (u * C + c of each) count,
        tastes move by 0.1 and qualities by 0.2 of their spread.
        """
        draw, drift, spread = (
            day.options.stream(NIGHT, day.number),
            day.options.drift,
            float(day.world.items.quality_I.std()),
        )
        self.clicks_UC *= DECAY
        for keys in clicked:
            np.add.at(self.clicks_UC.reshape(-1), keys, np.float32(1))
        self.taste_UK = _walk(self.taste_UK, 0.1 * drift, 1.0, draw)
        self.quality_I = _walk(self.quality_I, 0.2 * drift, spread, draw)


@dataclass(frozen=True)
class Shelf:
    """The items on offer on one day. dealt: items, each repeated for each of its slots, category by category."""

    live: np.ndarray
    dealt: np.ndarray
    first_C: np.ndarray
    size_C: np.ndarray

    @classmethod
    def of(cls, world: World, day: int) -> Shelf:
        """The items born until `day`."""
        items = world.items
        live = np.flatnonzero(items.birth_I <= day)
        live = live[np.argsort(items.category_I[live], kind="stable")]
        size = np.bincount(items.category_I[live], items.slots_I[live], world.num_categories).astype(np.int64)
        return cls(live, np.repeat(live, items.slots_I[live]), np.cumsum(size) - size, size)


@dataclass(frozen=True)
class Requests:
    """Requests of a day or a part, by time.

    start [R + 1]: where a request's rows begin; time: microseconds since 1970.
    """

    user: np.ndarray
    scenario: np.ndarray
    time: np.ndarray
    random: np.ndarray
    start: np.ndarray

    def slice(self, begin: int, end: int) -> Requests:
        """Requests begin..end."""
        rows = self.start[begin : end + 1]
        return Requests(
            self.user[begin:end], self.scenario[begin:end], self.time[begin:end], self.random[begin:end], rows
        )


@dataclass(frozen=True)
class Day:
    """One day, ready to be drawn part by part; parts are independent of each other."""

    options: Simulation
    world: World
    state: State
    shelf: Shelf
    number: int
    parts: tuple[Requests, ...]

    def draw(self, part: int) -> Rows:
        """The rows of one part."""
        return _rows(self, self.parts[part], self.options.stream(PART, self.number, part))


@dataclass(frozen=True)
class Rows:
    """log: the observable columns, scenario and device as indices. truth: the hidden ones. clicked: u * C + c of each
    click.
    """

    log: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]
    clicked: np.ndarray


def open_day(options: Simulation, world: World, state: State, number: int) -> Day:
    """Draw the requests of day `number` (0, 1, ...) from its own random numbers."""
    requests = _requests(options, world, number, options.stream(DAY, number))
    edges = np.searchsorted(requests.start[:-1], np.arange(0, options.rows_per_day, PART_ROWS))
    ends = [*edges[1:], len(requests.user)]
    parts = tuple(requests.slice(begin, end) for begin, end in zip(edges, ends, strict=True) if begin < end)
    return Day(options, world, state, Shelf.of(world, number), number, parts)


def _requests(options: Simulation, world: World, number: int, draw: np.random.Generator) -> Requests:
    rows, scenarios = options.rows_per_day, world.scenarios
    ends = np.cumsum(draw.integers(*CANDIDATES, rows // CANDIDATES[0] + 1))
    R = int(np.searchsorted(ends, rows)) + 1
    ends[R - 1] = rows
    user = world.users.dealt[draw.integers(0, len(world.users.dealt), R)]
    scenario = np.searchsorted(scenarios.cdf_S[:-1], draw.random(R), side="right")
    scenario = np.where(draw.random(R) < HOME, world.users.favourite_U[user], scenario)
    # each scenario once a day, where there are requests enough
    present = draw.permutation(options.scenarios)[: max(1, R // 2)]
    scenario[draw.choice(R, len(present), replace=False)] = present
    hours = np.interp(
        np.sort(draw.random(R)), np.concatenate([[0], TRAFFIC_24.cumsum() / TRAFFIC_24.sum()]), np.arange(25)
    )
    midnight = ((options.start - date(1970, 1, 1)).days + number) * 24 * HOUR
    time = midnight + np.minimum((hours * HOUR).astype(np.int64), 24 * HOUR - 1)
    random = draw.random(R) < options.random_exposure
    return Requests(user, scenario, time, random, np.concatenate([[0], ends[:R]]))


def _rows(day: Day, requests: Requests, draw: np.random.Generator) -> Rows:
    sizes = np.diff(requests.start)
    request_N = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    item_N, propensity_N = _exposure(day, requests, sizes, request_N, draw)
    category_N = day.world.items.category_I[item_N]
    key_N = (requests.user * day.world.num_categories)[request_N] + category_N
    interest_N = _interest(day, requests, request_N, item_N, category_N, key_N)
    direct_N = _direct(day, requests)[request_N]
    probability_N = _sigmoid(interest_N + direct_N)
    click_N = draw.random(len(item_N), dtype=np.float32) < probability_N
    offset = day.number * day.options.rows_per_day
    row_N = np.arange(offset + requests.start[0], offset + requests.start[-1])
    device_R = np.searchsorted(DEVICE_CDF[:-1], draw.random(len(sizes)), side="right").astype(np.int8)
    log = {
        "row": row_N,
        "time": requests.time[request_N],
        "user_id": requests.user[request_N],
        "item_id": item_N,
        "scenario": requests.scenario.astype(np.int16)[request_N],
        "session": (offset + requests.start[:-1])[request_N],
        "hour": (requests.time // HOUR % 24).astype(np.int8)[request_N],
        "device": device_R[request_N],
        "click": click_N.view(np.int8),
    }
    truth = {
        "row": row_N,
        "interest": interest_N,
        "direct": direct_N,
        "propensity": propensity_N,
        "click_probability": probability_N,
    }
    if day.options.conversions:
        price_N = day.world.items.price_I[item_N]
        truth["conversion_probability"] = _sigmoid(-3.5 + 0.7 * (interest_N - BASE) - 0.3 * np.log(price_N / 20))
        log["conversion"] = (
            click_N & (draw.random(len(item_N), dtype=np.float32) < truth["conversion_probability"])
        ).view(np.int8)
    if day.options.random_exposure:
        log["is_random"] = requests.random[request_N].view(np.int8)
    return Rows(log, truth, key_N[click_N])


def _exposure(
    day: Day, requests: Requests, sizes: np.ndarray, request_N: np.ndarray, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Items [N] and their propensities [N].

    Candidate k of n takes the quantile offset + k / n (mod 1) of category and of item, with one random offset for each
    in a request: each candidate alone follows the policy exactly, and no item with less than a tenth of its category
    comes twice.
    """
    world, shelf = day.world, day.shelf
    step_N = (np.arange(len(request_N)) - (requests.start[:-1] - requests.start[0])[request_N]) / sizes[request_N]
    category_q, item_q = (_turned(draw.random(len(sizes))[request_N], step_N) for _ in range(2))
    policy_N = (world.users.segment_U[requests.user] * len(world.scenarios.cdf_S) + requests.scenario)[request_N]
    category_N = world.policy_dealt.reshape(-1)[policy_N * POLICY_SLOTS + (category_q * POLICY_SLOTS).astype(np.int64)]
    size_N = shelf.size_C[category_N]
    item_N = shelf.dealt[shelf.first_C[category_N] + (item_q * size_N).astype(np.int64)]
    chosen_N = world.policy_counts.reshape(-1)[policy_N * world.num_categories + category_N] / POLICY_SLOTS
    propensity_N = (chosen_N * world.items.slots_I[item_N] / size_N).astype(np.float32)
    if day.options.random_exposure:
        random_N = requests.random[request_N]
        item_N[random_N] = shelf.live[(item_q[random_N] * len(shelf.live)).astype(np.int64)]
        propensity_N[random_N] = 1 / len(shelf.live)
    return item_N, propensity_N


def _interest(
    day: Day, requests: Requests, request_N: np.ndarray, item_N: np.ndarray, category_N: np.ndarray, key_N: np.ndarray
) -> np.ndarray:
    """m [N], float32: the equation of U, I, S -> M."""
    state, scenarios = day.state, day.world.scenarios
    query_RK = (
        state.taste_UK[requests.user] * (np.float32(GAIN / np.sqrt(FACTORS)) * scenarios.weight_SK)[requests.scenario]
    )
    interest_N = np.einsum("nk,nk->n", query_RK[request_N], day.world.items.factors_IK[item_N])
    interest_N += scenarios.theme_SC.reshape(-1)[(requests.scenario * day.world.num_categories)[request_N] + category_N]
    interest_N += (np.float32(BASE) + state.quality_I)[item_N]
    clicks_N = state.clicks_UC.reshape(-1)[key_N]
    interest_N += np.float32(HABIT * day.options.habit) * clicks_N / (1 + clicks_N)
    return interest_N


def _direct(day: Day, requests: Requests) -> np.ndarray:
    """d [R], float32: the equation of S -> Y."""
    scenarios, hour = day.world.scenarios, requests.time % (24 * HOUR) / HOUR
    daily = np.sin((hour - scenarios.peak_S[requests.scenario]) * (np.pi / 12))
    direct = scenarios.direct_S[requests.scenario] + 0.2 * day.world.users.sway_U[requests.user] + 0.2 * daily
    return (day.options.direct_effect * direct).astype(np.float32)


def _turned(offset: np.ndarray, step: np.ndarray) -> np.ndarray:
    """offset + step modulo 1, for both in [0, 1)."""
    total = offset + step
    total -= total >= 1
    return total


def _walk(values: np.ndarray, step: float, spread: float, draw: np.random.Generator) -> np.ndarray:
    """One step of a random walk that keeps `spread`: values move by about step * spread and shrink to match."""
    if not step:
        return values
    return np.float32(np.sqrt(1 - step**2)) * values + np.float32(step * spread) * draw.standard_normal(
        values.shape, dtype=np.float32
    )


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))
