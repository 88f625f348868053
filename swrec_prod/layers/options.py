"""Types of model options.

A constructor's annotations are the schema of its options, so limits are stated in the types.
"""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

Norm = Literal["none", "layer", "batch"]
GateNorm = Literal["none", "batch"]
Width = Annotated[int, Gt(0)]
Widths = tuple[Width, ...]
Rate = Annotated[float, Ge(0), Lt(1)]
