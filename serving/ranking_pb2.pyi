from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScoreRequest(_message.Message):
    __slots__ = ("model", "version", "scenario", "request_id", "unit", "user", "items", "debias_strength")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    DEBIAS_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    scenario: str
    request_id: str
    unit: str
    user: _containers.RepeatedCompositeFieldContainer[Column]
    items: _containers.RepeatedCompositeFieldContainer[Column]
    debias_strength: float
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., scenario: _Optional[str] = ..., request_id: _Optional[str] = ..., unit: _Optional[str] = ..., user: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., items: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., debias_strength: _Optional[float] = ...) -> None: ...

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
    __slots__ = ("request_id", "model", "version", "debias_strength", "tasks", "probability", "score", "interest_logit", "scenario_logit")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DEBIAS_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    INTEREST_LOGIT_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_LOGIT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    version: str
    debias_strength: float
    tasks: _containers.RepeatedScalarFieldContainer[str]
    probability: _containers.RepeatedScalarFieldContainer[float]
    score: _containers.RepeatedScalarFieldContainer[float]
    interest_logit: _containers.RepeatedScalarFieldContainer[float]
    scenario_logit: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., debias_strength: _Optional[float] = ..., tasks: _Optional[_Iterable[str]] = ..., probability: _Optional[_Iterable[float]] = ..., score: _Optional[_Iterable[float]] = ..., interest_logit: _Optional[_Iterable[float]] = ..., scenario_logit: _Optional[_Iterable[float]] = ...) -> None: ...
