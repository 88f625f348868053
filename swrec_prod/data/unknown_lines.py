"""What `swrec prepare` says at its end of ids that nothing has trained, or that `min_count` gave up."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from swrec_prod.data.manifest import Manifest
from swrec_prod.data.unknown_values import MANY, Share, Span, shares, untrained
from swrec_prod.schema import FeatureSchema

REMEDY = "a model scores all unknown values of a feature by row 0: see Unknown values in docs/data.md"


class _Parts(NamedTuple):
    """fitted: rows that the vocabularies were fitted on. training: those and days that extended them. later: the rest,
    which `judged` names; `new` says since when a value of them is new.
    """

    fitted: Span
    training: Span
    later: Span
    judged: str
    new: str


def unknown_lines(manifest: Manifest, schema: FeatureSchema) -> list[str]:
    """A line for every feature with many unknown values, of training rows or of later ones alone; and what it means."""
    parts = _parts(manifest)
    if parts is None:
        return []
    fitted, training, later = (shares(manifest, schema, span) for span in parts[:3])
    names = [name for name in fitted if name in training and name in later]
    every = (_line(schema, parts, name, fitted[name], training[name], later[name]) for name in names)
    lines = [line for line in every if line]
    return [*lines, REMEDY] if lines else []


def _line(schema: FeatureSchema, parts: _Parts, name: str, fitted: Share, training: Share, later: Share) -> str:
    encoder = schema.encoder_of(schema.feature(name))
    assert encoder is not None, "ids have an encoder"
    rare = f"fewer than {encoder.min_count} times" if encoder.min_count > 1 else ""
    if untrained(training, later):
        why = f"{parts.new} or there {rare}" if rare else parts.new
        seen = f"{later.ratio:.0%} of the values of {parts.judged} are unknown ({why})"
        return f"{name}: {seen}, {training.ratio:.1%} of those of training rows"
    if fitted.ratio >= MANY and rare:
        given_up = f"min_count {encoder.min_count} sends {fitted.ratio:.0%} of the values of training rows to row 0"
        return f"{name}: {given_up}; of {parts.judged} {later.ratio:.0%} are unknown"
    return ""


def _parts(manifest: Manifest) -> _Parts | None:
    """None where no rows are left to be judged."""
    if manifest.splits is not None:
        train = Span(parts=("train",))
        return _Parts(train, train, Span(parts=("valid", "test")), "validation and test rows", "not in training rows")
    until = manifest.fit.until if manifest.fit else None
    if until is None or max(manifest.days) <= until:
        return None
    fitted = min((file.fitted_until for file in manifest.files if file.fitted_until), default=until)
    first = until + timedelta(days=1)
    return _Parts(Span(last=fitted), Span(last=until), Span(first), f"{first}..", f"not in days to {until}")
