"""A Griffe extension: examples in docstrings (`>>>`) are shown as code."""

from __future__ import annotations

from typing import Any

import griffe

from reference.markdown import with_fences


class Examples(griffe.Extension):
    """Rewrites docstrings as they are read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Fence the examples of one module, class or function."""
        if obj.docstring:
            obj.docstring.value = with_fences(obj.docstring.value)
