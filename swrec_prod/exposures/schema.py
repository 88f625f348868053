"""The columns of an exposure log: Parquet files DIR/dt=2026-12-01/hour=09/*.parquet, each of one package.

A row is one answer in one experiment. An answer in none has one row as well, without an experiment, so that a log can
always be trained on: its rows with `event_id = answer_id` are the answers, each once.

Beside the columns of BASE a file has those of the request, raw as they came, if they were kept (`sample_rate`):

    user.<name>    of the user and the moment: one value, or a list where the feature has several
    items.<name>   of the candidates: a list of N values, or of N lists where the feature has several

with values int64, double or string, null where they were unknown. Behaviours are lists as in a request
(`user.history.item`, `user.history.item.length`). Scores are candidate by candidate: those of candidate n are
`score[n * T : (n + 1) * T]` for the T names of `tasks`.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from swrec_prod.errors import DataError

USER, ITEMS = "user", "items"
NAME = pa.dictionary(pa.int32(), pa.string())
SCORES = pa.list_(pa.float32())
TYPES = {"int64": pa.int64(), "float64": pa.float64(), "string": pa.string()}
HASH_VERSION = 1  # of the bucketing specification

BASE = pa.schema(
    [
        ("event_id", pa.binary(16)),  # UUIDv7, unique over all logs
        ("answer_id", pa.binary(16)),  # the event_id of the answer's first row
        ("ts", pa.timestamp("us", tz="UTC")),  # when the answer was ready
        ("request_id", pa.string()),  # null where the request had none
        ("unit", pa.string()),  # who is randomised; null where the request had none
        ("scenario", NAME),  # of the request
        ("scored_scenario", NAME),  # as which it was scored
        ("fallback", pa.bool_()),  # whether that is another one
        ("domain", NAME),
        ("layer", NAME),
        ("experiment", NAME),  # null, as the five around it, where the answer is in none
        ("variant", NAME),
        ("bucket", pa.uint16()),  # 0 to 9,999, of the unit in the experiment
        ("triggered", pa.bool_()),  # whether the variant had anything to change
        ("forced", pa.bool_()),  # asked for by the request: analyses leave it out
        ("hash_version", pa.uint8()),
        ("config_version", pa.binary(8)),  # of the experiments file; zeros where there is none
        ("model", NAME),
        ("model_version", NAME),
        ("debias_strength", pa.float64()),  # c; 0 where the model has no causal split
        ("latency_us", pa.uint32()),  # from the request's bytes to the answer's
        ("candidates", pa.uint16()),  # N
        ("sample_rate", pa.float32()),  # the share of answers whose features are kept; null where they are not
        ("tasks", pa.list_(pa.string())),
        ("probability", SCORES),
        ("score", SCORES),
        ("interest_logit", SCORES),  # empty, as the next one, where the model has no causal split
        ("scenario_logit", SCORES),
    ]
)


class FeatureColumn(NamedTuple):
    """A column that requests for a package may have.

    part: `user` or `items`; type: int64, float64 or string; several: whether a row holds any number of values.
    """

    part: str
    name: str
    type: str
    several: bool

    @property
    def field(self) -> pa.Field:
        """The column of the log."""
        kind = TYPES[self.type]
        for _ in range(self.several + (self.part == ITEMS)):
            kind = pa.list_(kind)
        return pa.field(f"{self.part}.{self.name}", kind)


def feature_columns(schema: pa.Schema) -> list[FeatureColumn]:
    """Those of a file of the log. Raises DataError for a schema that lacks columns of BASE."""
    if missing := [name for name in BASE.names if name not in schema.names]:
        raise DataError(f"no exposure log: column {missing[0]!r} is missing; expected files that swrec serve wrote")
    return [_feature(field) for field in schema if field.name.partition(".")[0] in (USER, ITEMS) and "." in field.name]


def _feature(field: pa.Field) -> FeatureColumn:
    part, _, name = field.name.partition(".")
    kind, depth = field.type, 0
    while pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind, depth = kind.value_type, depth + 1
    names = {type: name for name, type in TYPES.items()}
    return FeatureColumn(part, name, names.get(kind, "string"), depth > (part == ITEMS))
