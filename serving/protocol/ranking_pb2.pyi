from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScoreRequest(_message.Message):
    __slots__ = ("model", "version", "scenario", "request_id", "unit", "user", "items", "debias_strength", "forced")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    DEBIAS_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    FORCED_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    scenario: str
    request_id: str
    unit: str
    user: _containers.RepeatedCompositeFieldContainer[Column]
    items: _containers.RepeatedCompositeFieldContainer[Column]
    debias_strength: float
    forced: _containers.RepeatedCompositeFieldContainer[Variant]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., scenario: _Optional[str] = ..., request_id: _Optional[str] = ..., unit: _Optional[str] = ..., user: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., items: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., debias_strength: _Optional[float] = ..., forced: _Optional[_Iterable[_Union[Variant, _Mapping]]] = ...) -> None: ...

class Variant(_message.Message):
    __slots__ = ("experiment", "variant")
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    experiment: str
    variant: str
    def __init__(self, experiment: _Optional[str] = ..., variant: _Optional[str] = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("name", "ints", "floats", "strings", "lengths")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INTS_FIELD_NUMBER: _ClassVar[int]
    FLOATS_FIELD_NUMBER: _ClassVar[int]
    STRINGS_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    name: str
    ints: _containers.RepeatedScalarFieldContainer[int]
    floats: _containers.RepeatedScalarFieldContainer[float]
    strings: _containers.RepeatedScalarFieldContainer[str]
    lengths: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., ints: _Optional[_Iterable[int]] = ..., floats: _Optional[_Iterable[float]] = ..., strings: _Optional[_Iterable[str]] = ..., lengths: _Optional[_Iterable[int]] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("request_id", "model", "version", "debias_strength", "tasks", "probability", "score", "interest_logit", "scenario_logit", "scored_scenario", "fallback", "variants")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DEBIAS_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    INTEREST_LOGIT_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_LOGIT_FIELD_NUMBER: _ClassVar[int]
    SCORED_SCENARIO_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    version: str
    debias_strength: float
    tasks: _containers.RepeatedScalarFieldContainer[str]
    probability: _containers.RepeatedScalarFieldContainer[float]
    score: _containers.RepeatedScalarFieldContainer[float]
    interest_logit: _containers.RepeatedScalarFieldContainer[float]
    scenario_logit: _containers.RepeatedScalarFieldContainer[float]
    scored_scenario: str
    fallback: bool
    variants: _containers.RepeatedCompositeFieldContainer[Variant]
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., debias_strength: _Optional[float] = ..., tasks: _Optional[_Iterable[str]] = ..., probability: _Optional[_Iterable[float]] = ..., score: _Optional[_Iterable[float]] = ..., interest_logit: _Optional[_Iterable[float]] = ..., scenario_logit: _Optional[_Iterable[float]] = ..., scored_scenario: _Optional[str] = ..., fallback: bool = ..., variants: _Optional[_Iterable[_Union[Variant, _Mapping]]] = ...) -> None: ...

class StreamedScore(_message.Message):
    __slots__ = ("request_id", "response", "error")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    response: ScoreResponse
    error: StreamError
    def __init__(self, request_id: _Optional[str] = ..., response: _Optional[_Union[ScoreResponse, _Mapping]] = ..., error: _Optional[_Union[StreamError, _Mapping]] = ...) -> None: ...

class StreamError(_message.Message):
    __slots__ = ("code", "message", "pushback_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PUSHBACK_MS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    pushback_ms: int
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., pushback_ms: _Optional[int] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "is_default", "architecture", "tasks", "scenarios", "fallback_scenario", "causal", "user", "items")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    SCENARIOS_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_SCENARIO_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    is_default: bool
    architecture: str
    tasks: _containers.RepeatedScalarFieldContainer[str]
    scenarios: _containers.RepeatedScalarFieldContainer[str]
    fallback_scenario: str
    causal: bool
    user: _containers.RepeatedCompositeFieldContainer[Input]
    items: _containers.RepeatedCompositeFieldContainer[Input]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., is_default: bool = ..., architecture: _Optional[str] = ..., tasks: _Optional[_Iterable[str]] = ..., scenarios: _Optional[_Iterable[str]] = ..., fallback_scenario: _Optional[str] = ..., causal: bool = ..., user: _Optional[_Iterable[_Union[Input, _Mapping]]] = ..., items: _Optional[_Iterable[_Union[Input, _Mapping]]] = ...) -> None: ...

class Input(_message.Message):
    __slots__ = ("name", "type", "several")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SEVERAL_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    several: bool
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., several: bool = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("model", "version", "scenario", "unit", "forced")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    FORCED_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    scenario: str
    unit: str
    forced: _containers.RepeatedCompositeFieldContainer[Variant]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., scenario: _Optional[str] = ..., unit: _Optional[str] = ..., forced: _Optional[_Iterable[_Union[Variant, _Mapping]]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("model", "version", "scored_scenario", "fallback", "debias_strength", "reasons", "variants")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SCORED_SCENARIO_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    DEBIAS_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    scored_scenario: str
    fallback: bool
    debias_strength: float
    reasons: _containers.RepeatedScalarFieldContainer[str]
    variants: _containers.RepeatedCompositeFieldContainer[Variant]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., scored_scenario: _Optional[str] = ..., fallback: bool = ..., debias_strength: _Optional[float] = ..., reasons: _Optional[_Iterable[str]] = ..., variants: _Optional[_Iterable[_Union[Variant, _Mapping]]] = ...) -> None: ...
