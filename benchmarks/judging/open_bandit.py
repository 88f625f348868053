"""What Open Bandit's random log says of Thompson sampling (BTS), held to what BTS earned: the figures of
docs/off_policy.md.

    python -m benchmarks.judging.open_bandit                 print them; the log is fetched from PyPI once
    python -m benchmarks.judging.open_bandit --write         put them into the page, between its two marks

Shapes: N rows, I items of a campaign, 3 positions.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import binomtest, chi2_contingency

from swrec_prod.datasets.open_bandit import BTS_PRIOR, CAMPAIGNS, OPEN_BANDIT, OpenBanditOptions, fetched, impressions
from swrec_prod.evaluate.text import count, markdown_table, share, signed
from swrec_prod.files import write_text
from swrec_prod.metrics.ranks import Interval
from swrec_prod.statistics.off_policy import LoggedActions, OffPolicy
from swrec_prod.strict import read_yaml

PAGE = Path(__file__).resolve().parents[2] / "docs" / "off_policy.md"
BEGIN, END = "<!-- python -m benchmarks.judging.open_bandit --write -->", "<!-- end of its figures -->"
CACHE = Path.home() / ".cache" / "swrec"
DRAWS, CLIP, FOLDS = 50_000, 10.0, 5
SHRINK = 2_000  # impressions that an item's click rate is held to its campaign's by


class Campaign(NamedTuple):
    """One campaign's two logs, its number of items, and the prior of BTS: alpha and beta [I]."""

    name: str
    random: pa.Table
    bts: pa.Table
    items: int
    prior: tuple[np.ndarray, np.ndarray]


def campaigns(folder: Path) -> list[Campaign]:
    """folder: what `fetched` unpacked."""
    files = OPEN_BANDIT.locate(folder, folder, OpenBanditOptions())
    log = impressions(tuple(file.path for file in files), OpenBanditOptions())
    priors = read_yaml(folder / BTS_PRIOR)
    found = []
    for name in CAMPAIGNS:
        own = log.filter(pc.equal(log["campaign"], name))
        random, bts = (own.filter(pc.equal(own["policy"], policy)) for policy in ("random", "bts"))
        alpha, beta = (np.array(priors[name][key]) for key in ("alpha", "beta"))
        found.append(Campaign(name, random, bts, len(alpha), (alpha, beta)))
    return found


def places(log: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Where each row stands in an array [3, I]: position and item."""
    return log["position"].to_numpy() - 1, log["item_id"].to_numpy()


def of_the_prior(campaign: Campaign) -> np.ndarray:
    """How likely BTS is to show each item at each position when the log begins, [3, I]: it draws a click rate of every
    item and shows the three highest.
    """
    draws = np.random.default_rng(0).beta(*campaign.prior, (DRAWS, campaign.items))
    best = np.argsort(-draws, axis=1)[:, :3]
    return np.stack([np.bincount(best[:, k], minlength=campaign.items) / DRAWS for k in range(3)])


def of_the_log(campaign: Campaign) -> np.ndarray:
    """How often BTS did show each item at each position, over the whole log: [3, I]."""
    shown = np.zeros((3, campaign.items))
    np.add.at(shown, places(campaign.bts), 1)
    return shown / shown.sum(1, keepdims=True)


def columns_of(campaign: Campaign, target: np.ndarray) -> dict[str, np.ndarray]:
    """The random log's columns for the value of `target` [3, I], with click rates of items as the model of rewards:
    from the other folds, drawn to the campaign's rate.
    """
    log = campaign.random
    position_N, item_N = places(log)
    click_N, fold_N = log["click"].to_numpy(), np.arange(len(log)) % FOLDS
    predicted_N, expected_N = np.empty(len(log)), np.empty(len(log))
    for fold in range(FOLDS):
        own_N = fold_N == fold
        clicks, shown = (np.bincount(item_N[~own_N], mass, campaign.items) for mass in (click_N[~own_N], None))
        rates = (clicks + SHRINK * click_N[~own_N].mean()) / (shown + SHRINK)
        predicted_N[own_N], expected_N[own_N] = rates[item_N[own_N]], (target @ rates)[position_N[own_N]]
    propensity_N = log["propensity_score"].to_numpy()
    columns = {"reward": click_N, "propensity": propensity_N, "target": target[position_N, item_N]}
    return columns | {"predicted": predicted_N, "expected": expected_N}


def together(parts: list[dict[str, np.ndarray]], clip: float | None = None) -> OffPolicy:
    """The estimates of several campaigns' rows in one."""
    return LoggedActions.of(**{name: np.concatenate([p[name] for p in parts]) for name in parts[0]}).judged(clip)


TABLES = {  # what stands above each table
    "values": "**Clicks per 10,000 impressions**, 95 % intervals in brackets; target: how often BTS showed an item.",
    "of_prior": "**The same, the target being BTS as its prior has it** when the log begins.",
    "moved": "**How far BTS moved from its prior**: correlation of the prior's probability with the propensity that "
    "the log states, over the rows of a day.",
    "backwards": f"**Backwards**: the random policy's value from BTS's log, clipped at w = {CLIP:g}.",
    "positions": "**Position apart from item**: clicks per 10,000 by position in the random log, which shows all items "
    "alike at all positions.",
    "placed": "**Position in BTS's log**, which puts items where it likes: as seen, and with every item as often as "
    "any other at that position (SNIPS); propensities are those that the log states.",
}


def figures(found: list[Campaign]) -> str:
    """The tables of the page, in Markdown."""
    rows = {
        "values": _values(found),
        "of_prior": _of_prior(found),
        "moved": _moved(found),
        "backwards": _backwards(found),
        "positions": _positions(found),
        "placed": _placed(found),
    }
    return "\n\n".join(f"{text}\n\n{markdown_table(*_header_first(rows[name]))}" for name, text in TABLES.items())


def _header_first(rows: Iterator[list[str]]) -> tuple[list[str], list[list[str]]]:
    header, *lines = rows
    return header, lines


def _values(found: list[Campaign]) -> Iterator[list[str]]:
    yield ["campaign", "random, seen", "BTS, seen", "BTS, SNIPS", "BTS, doubly robust", "effective rows", "rewards"]
    columns = [columns_of(campaign, of_the_log(campaign)) for campaign in found]
    for name, parts, logs in _parts(found, columns):
        judged = together(parts)
        seen = [_rate(logs, kind) for kind in ("random", "bts")]
        estimates = [_interval(judged.estimates[key]) for key in ("snips", "sndr")]
        sizes = judged.weights.effective_rows, judged.weights.effective_rewards
        yield [name, *seen, *estimates, *map(count, sizes)]


def _of_prior(found: list[Campaign]) -> Iterator[list[str]]:
    yield ["campaign", "BTS, IPS", "BTS, SNIPS", "BTS, doubly robust", "mean w", "largest w", "rewards"]
    columns = [columns_of(campaign, of_the_prior(campaign)) for campaign in found]
    for name, parts, _ in _parts(found, columns):
        judged = together(parts)
        estimates = [_interval(judged.estimates[key]) for key in ("ips", "snips", "sndr")]
        weights = judged.weights
        yield [
            name,
            *estimates,
            f"{weights.mean.value:.3f}",
            f"{weights.largest:,.0f}",
            count(weights.effective_rewards),
        ]


def _moved(found: list[Campaign]) -> Iterator[list[str]]:
    days = np.unique(pc.strftime(found[0].bts["timestamp"], "%d").to_numpy(zero_copy_only=False))
    yield ["campaign", *(f"{day} Nov" for day in days)]
    for campaign in found:
        stated, prior = campaign.bts["propensity_score"].to_numpy(), of_the_prior(campaign)[places(campaign.bts)]
        day_N = pc.strftime(campaign.bts["timestamp"], "%d").to_numpy(zero_copy_only=False)
        correlations = [np.corrcoef(stated[day_N == d], prior[day_N == d])[0, 1] for d in np.unique(day_N)]
        yield [campaign.name, *map(signed, correlations)]


def _backwards(found: list[Campaign]) -> Iterator[list[str]]:
    yield [
        "campaign",
        "random, seen",
        "IPS",
        "SNIPS",
        "clipped IPS",
        "mass clipped",
        "mean w",
        "largest w",
        "effective rows",
    ]
    columns = [_to_uniform(campaign) for campaign in found]
    for name, parts, logs in _parts(found, columns):
        judged = together(parts, CLIP)
        estimates = [_interval(judged.estimates[key]) for key in ("ips", "snips", "clipped_ips")]
        weights = judged.weights
        sizes = f"{weights.mean.value:.2f}", f"{weights.largest:,.0f}", count(weights.effective_rows)
        yield [name, _rate(logs, "random"), *estimates, share(weights.clipped_mass), *sizes]


def _positions(found: list[Campaign]) -> Iterator[list[str]]:
    yield ["campaign", "left", "middle", "right", "p of no difference"]
    rows = [(campaign.name, [campaign.random]) for campaign in found]
    for name, logs in [*rows, ("together", [campaign.random for campaign in found])]:
        log = pa.concat_tables(logs)
        position_N, click_N = log["position"].to_numpy() - 1, log["click"].to_numpy()
        clicks, shown = np.bincount(position_N, click_N), np.bincount(position_N)
        p = chi2_contingency([clicks, shown - clicks]).pvalue
        yield [name, *(_exact(int(k), int(n)) for k, n in zip(clicks, shown, strict=True)), f"{p:.2f}"]


def _placed(found: list[Campaign]) -> Iterator[list[str]]:
    yield ["campaign", "position", "BTS, seen", "items alike", "propensity, median", "5 % to 95 %", "effective rows"]
    for name, columns, logs in _parts(found, [_to_uniform(campaign) for campaign in found]):
        place_N = np.concatenate([places(campaign.bts)[0] for campaign in logs])
        arrays = {key: np.concatenate([own[key] for own in columns]) for key in columns[0]}
        for place, title in enumerate(("left", "middle", "right")):
            own = {key: values[place_N == place] for key, values in arrays.items()}
            judged = LoggedActions.of(**own).judged()
            low, middle, high = (f"{of:.2g}" for of in np.quantile(own["propensity"], (0.05, 0.5, 0.95)))
            seen = _exact(int(own["reward"].sum()), len(own["reward"]))
            effective = count(judged.weights.effective_rows)
            yield [name, title, seen, _interval(judged.estimates["snips"]), middle, f"{low} to {high}", effective]


def _to_uniform(campaign: Campaign) -> dict[str, np.ndarray]:
    """The columns of BTS's log for the value of items at random."""
    log, uniform = campaign.bts, np.full(len(campaign.bts), 1 / campaign.items)
    return {"reward": log["click"].to_numpy(), "propensity": log["propensity_score"].to_numpy(), "target": uniform}


def _parts(
    found: list[Campaign], columns: list[dict[str, np.ndarray]]
) -> Iterator[tuple[str, list[dict[str, np.ndarray]], list[Campaign]]]:
    """Name, columns and logs of each campaign, then of all together."""
    for campaign, own in zip(found, columns, strict=True):
        yield campaign.name, [own], [campaign]
    yield "together", columns, found


def _rate(logs: list[Campaign], policy: str) -> str:
    clicks = np.concatenate([getattr(campaign, policy)["click"].to_numpy() for campaign in logs])
    return _exact(int(clicks.sum()), len(clicks))


def _exact(clicks: int, rows: int) -> str:
    """A rate with its interval (Wilson 1927)."""
    low, high = binomtest(clicks, rows).proportion_ci(method="wilson")
    return _interval(Interval(clicks / rows, 0.0, low, high))


def _interval(one: Interval) -> str:
    return f"{1e4 * one.value:.0f} ({1e4 * one.low:.0f} to {1e4 * one.high:.0f})"


def main() -> None:
    """Print the figures, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put them into docs/off_policy.md")
    options = parser.parse_args()
    fetched(CACHE)
    text = figures(campaigns(CACHE / "open-bandit"))
    if not options.write:
        print(text)
        return
    page = PAGE.read_text(encoding="utf-8")
    write_text(PAGE, re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n\n{text}\n\n{END}", page, flags=re.DOTALL))


if __name__ == "__main__":
    main()
