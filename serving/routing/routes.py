"""The routes file: per scenario, which model and version serve, with which c, what unknown scenarios get, and how much
of a worker the scenario may take.

    default: {model: mscan, fallback: refuse}
    scenarios:
      home: {strength: 0.3, queue_ms: 100}
      cart: {model: shared_bottom, version: 2, max_concurrent: 8}
      new_place: {fallback: home}

A key that a scenario leaves out is the default's; but version and strength are not, where it names a model of its own.
`swrec serve --routes FILE` reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from swrec_prod.serving.routing.labels import Label
from swrec_prod.strict import Strict, load

REFUSE = "refuse"


class Route(Strict):
    """What one scenario gets.

    model: name of a package; default: the only one that is served.
    version: of the package: a number, a label (routing/labels.py), or `latest`; default: `stable` where the model has
        that label, else `latest`.
    strength: c of the ranking score, within the package's range; default: the package's for the scenario. A request may
        say another.
    fallback: for a scenario that the model does not know: the scenario as which it is scored, or `refuse`; default:
        what the package says, which is to refuse where it has no fallback.
    max_concurrent: requests that wait or are scored at a time in one worker; default: any number.
    queue_ms: estimated milliseconds of requests that wait at a time in one worker; default: all of its queue.
    """

    model: str | None = None
    version: Annotated[int, Field(ge=1)] | Literal["latest"] | Label | None = None
    strength: Annotated[float, Field(allow_inf_nan=False)] | None = None
    fallback: str | None = None
    max_concurrent: Annotated[int, Field(ge=1)] | None = None
    queue_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class Routes(Strict):
    """The file.

    default: for scenarios that are not listed, and for keys that a listed one leaves out. Limits are each scenario's
        own, and those that the model does not know share one.
    scenarios: by name, as requests send it.
    """

    default: Route = Route()
    scenarios: dict[str, Route] = Field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Routes:
        """Raises ConfigError naming file, key and what would be right. `Router` checks it against the packages."""
        return load(cls, path)

    def route(self, scenario: str) -> Route:
        """What a scenario gets, default included."""
        listed = self.scenarios.get(scenario)
        if listed is None:
            return self.default
        given = {key: getattr(listed, key) for key in listed.model_fields_set}
        of_another = {"version": None, "strength": None} if "model" in given else {}
        return self.default.model_copy(update={**of_another, **given})


class Share(NamedTuple):
    """How much of a worker requests of a name may take; None for any. Those of one name count together."""

    name: str = ""
    max_concurrent: int | None = None
    queue_ms: float | None = None
