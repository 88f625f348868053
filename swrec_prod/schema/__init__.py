"""FeatureSchema: which columns a model reads, whose they are and how a raw value becomes a number.

One YAML file serves prepare, train, export and serve. Names used everywhere after it:

    a feature            column `<name>`                in the standard table (raw) and in prepared days (encoded)
    a sequence feature   columns `<name>.item`, `<name>.scenario`, `<name>.time`, `<name>.age` and `<name>.<field>`:
                         one list a row, oldest behaviour first (a bag as a field: the bags of all behaviours one after
                         the other, and `<name>.<field>.length` says how many values each behaviour has)
    a weighted bag       columns `<name>` and `<name>.weight`
    a missing number     column `<name>.missing`, 1 where the number is missing, where the feature asks for it
    a label              column `label_<task>`          {0, 1}
    bookkeeping          `row`, `time`, `user`, `scenario`, and where they exist `request`, `weight`, `split`

Row 0 of every embedding table stands for unknown values and padding.
"""

from __future__ import annotations

from swrec_prod.schema.derived import Derived
from swrec_prod.schema.encoder import DENSE_ENCODERS, ID_ENCODERS, NUMERIC_ENCODERS, Encoder, EncoderKind
from swrec_prod.schema.feature import RESERVED, Feature, Kind, Pooling, SequenceField, Side
from swrec_prod.schema.feature_schema import FeatureSchema, Scenario
from swrec_prod.schema.label import Label

__all__ = [
    "DENSE_ENCODERS",
    "ID_ENCODERS",
    "NUMERIC_ENCODERS",
    "RESERVED",
    "Derived",
    "Encoder",
    "EncoderKind",
    "Feature",
    "FeatureSchema",
    "Kind",
    "Label",
    "Pooling",
    "Scenario",
    "SequenceField",
    "Side",
]
