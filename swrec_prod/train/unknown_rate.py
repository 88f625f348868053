"""train.unknown_rate as one number for each feature: what a run's own run.yaml says."""

from __future__ import annotations

from swrec_prod.config import RunConfig, SplitName
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.unknown_values import Share, Span, has_vocabulary, shares, untrained
from swrec_prod.errors import ConfigError, nearest
from swrec_prod.schema import FeatureSchema

AUTO = 0.02  # the rate where `auto` finds that row 0 is needed


def with_unknown_rate(config: RunConfig) -> RunConfig:
    """The configuration with the rate of every feature whose ids are left out, and no other; 0 where there is none.

    One number is for all features with a vocabulary; `auto` for those of them of which the validation and test rows
    have many unknown values, and the training rows next to none. Raises ConfigError naming a feature that has no ids.
    """
    asked = config.train.unknown_rate
    if asked == 0.0:
        return _with(config, {})
    catalog = Catalog.open(config.data.path)
    schema = catalog.schema
    used = schema if config.data.features is None else schema.select(config.data.features)
    if isinstance(asked, dict):
        return _with(config, _checked(asked, used))
    names = [f.name for f in used.of_kind("id", "bag") if has_vocabulary(schema, f)]
    if asked == "auto":
        parts = _shares(config, catalog)
        names = [name for name in names if name in parts and untrained(*parts[name])]
        asked = AUTO
    return _with(config, dict.fromkeys(names, asked))


def described(config: RunConfig, catalog: Catalog) -> str:
    """What happens to ids in training, for the log; config: `with_unknown_rate`'s. "" where nothing does."""
    rates = config.train.unknown_rate
    if not rates or not isinstance(rates, dict):
        return ""
    parts = _shares(config, catalog)
    said = [f"{name} {rate:g}{_unknown(parts.get(name))}" for name, rate in rates.items()]
    return f"unknown_rate, the share of known ids that train row 0: {', '.join(said)}"


def _shares(config: RunConfig, catalog: Catalog) -> dict[str, tuple[Share, Share]]:
    """Unknown values of the training rows, and of validation and test rows, by feature; {} where none were counted."""
    parts: tuple[tuple[SplitName, ...], ...] = (("train",), ("valid", "test"))
    spans = (Span.of(config.data, *part) for part in parts)
    training, judged = (shares(catalog.manifest, catalog.schema, span) for span in spans)
    return {name: (training[name], judged[name]) for name in training.keys() & judged.keys()}


def _unknown(parts: tuple[Share, Share] | None) -> str:
    if parts is None:
        return ""
    training, judged = parts
    return f" (unknown: {judged.ratio:.1%} of what is judged, {training.ratio:.1%} of training)"


def _checked(rates: dict[str, float], schema: FeatureSchema) -> dict[str, float]:
    looked_up = [feature.name for feature in schema.of_kind("id", "bag")]
    for name in rates:
        if name not in looked_up:
            raise ConfigError(f"train.unknown_rate: {name!r} is no id or bag feature; {nearest(name, looked_up)}")
    return {name: rate for name, rate in rates.items() if rate}


def _with(config: RunConfig, rates: dict[str, float]) -> RunConfig:
    return config.model_copy(update={"train": config.train.model_copy(update={"unknown_rate": rates or 0.0})})
