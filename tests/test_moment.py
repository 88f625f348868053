"""Calendar and clock to microseconds, against the datetime of the standard library."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swrec_prod.engine import engine
from swrec_prod.raw.moment import digits_micros

pytestmark = pytest.mark.engine

MOMENTS = st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31)), min_size=1, max_size=50)
CORNERS = [
    datetime(2000, 2, 29),
    datetime(2100, 2, 28, 23, 59, 59),
    datetime(2100, 3, 1),
    datetime(1999, 12, 31),
    datetime(2024, 2, 29),
]


@settings(max_examples=20, deadline=None)
@given(drawn=MOMENTS)
def test_micros_are_those_of_the_calendar(drawn: list[datetime]) -> None:
    moments = [m.replace(microsecond=0) for m in [*drawn, *CORNERS]]
    texts = [m.strftime("%Y%m%d%H%M%S") for m in moments] + [m.isoformat(" ") for m in moments]
    with engine("local", Path("/tmp")) as local:
        rows = local.from_arrow(pa.table({"text": texts, "at": range(len(texts))}))
        table = local.arrow(rows.select("at", micros=digits_micros(rows.text)).order_by("at"))
    assert table["micros"].to_pylist() == [round(m.replace(tzinfo=UTC).timestamp()) * 1_000_000 for m in moments] * 2
