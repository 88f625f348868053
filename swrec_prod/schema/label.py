"""Label: one task, a column of {0, 1} or a rule that makes one."""

from __future__ import annotations

from typing import Any, ClassVar

import pydantic

from swrec_prod.schema.records import SchemaRecord, as_tuple

Value = bool | int | float | str
RULES = ("above", "equals", "in")


class Label(SchemaRecord):
    """One task: `column` of the raw log holds {0, 1}, or a rule says when it is 1.

    name: of the task.
    column: of the raw log; its values are 0 and 1, unless a rule says what is a 1. A missing value is an error.
    above: 1 where the column's number is larger than this.
    equals: 1 where the column has this value.
    in: 1 where the column has one of these values.
    after: a label before it in the list: this outcome can only follow that one, so that it is 0 where that one is 0.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"after", "above", "equals", "any_of"})

    name: str = pydantic.Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    column: str
    after: str | None = None
    above: float | None = None
    equals: Value | None = None
    any_of: tuple[Value, ...] | None = pydantic.Field(None, alias="in", min_length=1)

    model_config = pydantic.ConfigDict(populate_by_name=True, serialize_by_alias=True)

    @pydantic.field_validator("equals", mode="before")
    @classmethod
    def _is_one(cls, value: Any) -> Any:
        if isinstance(value, (list, dict)):
            raise ValueError(f"{value} is not one value; for several say in")
        return value

    @pydantic.field_validator("any_of", mode="before")
    @classmethod
    def _from_value(cls, value: Any) -> Any:
        return as_tuple(value)

    @pydantic.model_validator(mode="after")
    def _one_rule(self) -> Label:
        given = [rule for rule, value in zip(RULES, self._rules, strict=True) if value is not None]
        if len(given) > 1:
            raise ValueError(f"label {self.name!r} has {' and '.join(given)}; give one rule")
        return self

    @property
    def has_rule(self) -> bool:
        """Whether the column's values are not the label itself."""
        return any(value is not None for value in self._rules)

    @property
    def outcome(self) -> str:
        """The column of events (etl.standard) that holds its {0, 1}: of a rule, one made of `column`."""
        return f"_label_{self.name}" if self.has_rule else self.column

    @property
    def _rules(self) -> tuple[object, object, object]:
        return self.above, self.equals, self.any_of
