"""Records of the schema, written so that one which does not use a key is what it was before the key existed."""

from __future__ import annotations

from typing import Any, ClassVar

import pydantic

from swrec_prod.strict import Strict


class SchemaRecord(Strict):
    """A record of which the keys in LATER are left out where they have their default.

    A schema's fingerprint is that of its text: with such keys in it, folders and packages from before would be others.
    """

    LATER: ClassVar[frozenset[str]] = frozenset()

    @pydantic.model_serializer(mode="wrap")
    def _plain(self, handler: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        at_default = [name for name in self.LATER if getattr(self, name) == fields[name].get_default()]
        unused = {fields[name].alias or name for name in at_default}
        return {key: value for key, value in handler(self).items() if key not in unused}


def as_tuple(value: Any) -> Any:
    """One value as a tuple of it, so that a list of one needs no brackets in YAML."""
    return value if value is None or isinstance(value, (list, tuple)) else (value,)
