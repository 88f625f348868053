"""The model zoo: MODELS by name, and `build`, which checks a run file's options against a constructor's signature."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

import pydantic

from swrec_prod.errors import ConfigError, nearest
from swrec_prod.layers.folding import ScenarioModel
from swrec_prod.layers.inputs import Dims
from swrec_prod.models.adasparse import AdaSparse
from swrec_prod.models.adl import ADL
from swrec_prod.models.aesm2 import AESM2
from swrec_prod.models.compat import AllRows, resolve, scope_types
from swrec_prod.models.csii import CSII
from swrec_prod.models.dnn import DNN
from swrec_prod.models.epnet import EPNet
from swrec_prod.models.hamur import Hamur
from swrec_prod.models.m2m import M2M
from swrec_prod.models.m3oe import M3oE
from swrec_prod.models.mmoe import MMoE
from swrec_prod.models.mscan import MScan
from swrec_prod.models.pepnet import PEPNet
from swrec_prod.models.ple import PLE
from swrec_prod.models.ppnet import PPNet
from swrec_prod.models.sar_net import SARNet
from swrec_prod.models.sfpnet import SFPNet
from swrec_prod.models.shared_bottom import SharedBottom
from swrec_prod.models.star import STAR

MODELS: dict[str, type[ScenarioModel]] = {
    "adasparse": AdaSparse,
    "adl": ADL,
    "aesm2": AESM2,
    "csii": CSII,
    "dnn": DNN,
    "epnet": EPNet,
    "hamur": Hamur,
    "m2m": M2M,
    "m3oe": M3oE,
    "mmoe": MMoE,
    "mscan": MScan,
    "pepnet": PEPNet,
    "ple": PLE,
    "ppnet": PPNet,
    "sar_net": SARNet,
    "sfpnet": SFPNet,
    "shared_bottom": SharedBottom,
    "star": STAR,
}


def build(name: str, options: Mapping[str, Any], dims: Dims) -> ScenarioModel:
    """The model `name` with the given options (YAML values; lists become tuples), and those that `compat` stands for.

    Raises ConfigError for an unknown model or option, a value of the wrong type or range, or data that do not fit.
    >>> build("shared_bottom", {"tower": [16]}, Dims(x=8, num_scenarios=2)).tower.hidden[0].linear.d_out
    16
    """
    model = find(name)
    options = resolve(name, options)
    types = option_types(model) | scope_types(name)
    for key in options:
        if key not in types:
            raise ConfigError(f"model.{key}: unknown option of {name}; {nearest(key, types)}")
    checked = {key: _check(f"model.{key}", types[key], value) for key, value in options.items()}
    scope = checked.pop("norm_scope", "routed")
    try:
        built = model(dims, **checked)
    except ValueError as failure:
        raise ConfigError(f"model: {failure}") from None
    return AllRows(built) if scope == "all_rows" else built


def find(name: str) -> type[ScenarioModel]:
    """The class of the model `name`. Raises ConfigError naming the nearest one."""
    if name not in MODELS:
        raise ConfigError(f"model.name: unknown model {name!r}; {nearest(name, MODELS)}")
    return MODELS[name]


def option_types(model: type[ScenarioModel]) -> dict[str, Any]:
    """The options of a model: the keyword-only arguments of its constructor, with their types."""
    hints = get_type_hints(model.__init__, include_extras=True)
    parameters = inspect.signature(model.__init__).parameters.values()
    return {p.name: hints[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}


def _check(place: str, kind: Any, value: Any) -> Any:
    """`value` as the annotated type `kind`; strict, so that a quoted number or a yes for a width is an error."""
    plain = _tuples(value)
    try:
        return pydantic.TypeAdapter(kind).validate_python(plain, strict=True)
    except pydantic.ValidationError as failure:
        first = failure.errors()[0]
        where = ".".join([place, *(str(key) for key in first["loc"] if isinstance(key, int))])
        message = first["msg"].replace("valid tuple", "list")
        raise ConfigError(f"{where}: {message[0].lower() + message[1:]}, not {first['input']!r}") from None


def _tuples(value: Any) -> Any:
    """YAML has lists only; options are immutable."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
