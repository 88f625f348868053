"""Whether a challenger may take the champion's place, by a rule that lies in a file: `promote` or `hold`, with reasons.

Every check that fails is a reason to hold, and every check is said. Losses count where they are significant among all
scenarios that are looked at (Benjamini & Hochberg, JRSS B 1995); over all rows the challenger has to show that it is
not worse: the lower end of the difference's interval must lie above the margin. Too few rows never promote.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pydantic

from swrec_prod import shipped
from swrec_prod.errors import ConfigError, DataError, nearest
from swrec_prod.evaluate.text import change, count, number, share
from swrec_prod.judge.contrasts import corrected
from swrec_prod.judge.record import BackfillRecord, Contrast, Figures, GaucDifference, JudgedModel, Reason, Verdict
from swrec_prod.strict import Strict, load

Range = tuple[float, float]


class GateRule(Strict):
    """When a challenger is promoted.

    task: the label that decides; left out, the first one. minimum_rows, minimum_positives, minimum_days: of the judged
    rows; fewer hold. margin: how much AUC over all rows the challenger may lose: the lower end of the 95 % interval of
    the difference lies above minus that. must_gain: whether it must also be significantly better over all rows.
    scenario_rows, scenario_positives: a scenario with fewer is not looked at alone. scenario_auc_loss: the largest
    significant loss of AUC that is allowed in a scenario. scenario_gauc_loss: the same of GAUC; left out, it is not
    looked at. false_discoveries: the share of the scenarios' marks that may be false, those of either figure.
    calibration: the range of the mean probability over the mean label, over all rows; scenario_calibration: the same in
    each scenario, left out, it is not looked at. unknown: the largest share of feature values that may be unknown.
    """

    task: str | None = None
    minimum_rows: int = pydantic.Field(10_000, ge=0)
    minimum_positives: int = pydantic.Field(200, ge=0)
    minimum_days: int = pydantic.Field(1, ge=1)
    margin: float = pydantic.Field(0.002, ge=0)
    must_gain: bool = False
    scenario_rows: int = pydantic.Field(1_000, ge=0)
    scenario_positives: int = pydantic.Field(50, ge=0)
    scenario_auc_loss: float = pydantic.Field(0.005, ge=0)
    scenario_gauc_loss: float | None = pydantic.Field(None, ge=0)
    false_discoveries: float = pydantic.Field(0.05, gt=0, lt=1)
    calibration: Range = (0.8, 1.25)
    scenario_calibration: Range | None = None
    unknown: float = pydantic.Field(0.3, ge=0, le=1)

    @pydantic.field_validator("calibration", "scenario_calibration")
    @classmethod
    def _rises(cls, value: Range | None) -> Range | None:
        if value is not None and not 0 <= value[0] < value[1]:
            raise ValueError(f"expected [low, high] with 0 <= low < high, not {list(value)}")
        return value

    @classmethod
    def load(cls, path: str | Path) -> GateRule:
        """Of a rule file, or of the shipped one by its name, `gate`. Raises ConfigError when it is missing or wrong."""
        return load(cls, shipped.CONFIGS / "gate.yaml" if str(path) == "gate" else path)


def verdict_of(record: BackfillRecord, rule: GateRule, challenger: str | None = None) -> Verdict:
    """What the rule says of a challenger against the record's champion; of several, `challenger` says which.

    Raises ConfigError where there is no such challenger, or the rule names a label that is not there; DataError where
    the two have no difference to look at.
    """
    model = _challenger(record, challenger)
    task = rule.task or record.tasks[0]
    if task not in record.tasks:
        raise ConfigError(f"gate: task {task}: no such label; {nearest(task, record.tasks)}")
    own = [of for of in record.differences if of.challenger == model.name and of.task == task]
    overall = next((of for of in own if of.scenario is None), None)
    looked_at = [of for of in own if of.scenario is not None and _counts(of, rule)]
    scenarios = corrected(looked_at, rule.false_discoveries)
    checks = list(_Checks(rule, model, task).all(overall, scenarios))
    failed = tuple(check for check in checks if not check.passed)
    return Verdict(
        verdict="hold" if failed else "promote",
        challenger=model.name,
        champion=str(record.champion),
        task=task,
        reasons=failed or tuple(check for check in checks if check.check in ("margin", "must_gain")),
        gains=tuple(of for of in scenarios if of.significant and of.value > 0),
        losses=tuple(of for of in scenarios if of.significant and of.value < 0),
        overall=overall,
        checks=len(checks),
        rule=rule.model_dump(mode="json"),
    )


class _Checks:
    """Every check of a rule on one challenger."""

    def __init__(self, rule: GateRule, model: JudgedModel, task: str) -> None:
        self.rule, self.task, self.days = rule, task, len(model.days)
        self.pooled = _by_scenario(model, task)

    def all(self, overall: Contrast | None, scenarios: Sequence[Contrast]) -> Iterator[Reason]:
        """In the order in which they are told."""
        yield from self._support()
        yield from self._overall(overall)
        for contrast in scenarios:
            yield from self._scenario(contrast)
        yield self._calibration("calibration", None, self.rule.calibration)
        yield self._unknown()

    def _support(self) -> Iterator[Reason]:
        whole = self.pooled[None]
        for check, found in (
            ("minimum_rows", whole.rows),
            ("minimum_positives", whole.positives),
            ("minimum_days", self.days),
        ):
            needed, noun = getattr(self.rule, check), check.removeprefix("minimum_")
            text = f"{count(found)} {noun} were judged, {count(needed)} are needed"
            yield self._reason(check, found >= needed, found, needed, text)

    def _overall(self, overall: Contrast | None) -> Iterator[Reason]:
        margin = -self.rule.margin
        if overall is None:
            text = "over all rows there is no difference to look at: fewer than two users of either label"
            yield self._reason("margin", False, None, margin, text)
            return
        found = f"over all rows AUC changes by {change(overall.value)} ({_ends(overall)})"
        allowed = f"its lower end must lie above {change(margin)}"
        yield self._reason("margin", overall.low > margin, overall.low, margin, f"{found}; {allowed}")
        if self.rule.must_gain:
            text = f"{found}; it must be significantly better"
            yield self._reason("must_gain", overall.low > 0, overall.low, 0.0, text)

    def _scenario(self, contrast: Contrast) -> Iterator[Reason]:
        name = str(contrast.scenario)
        yield self._loss("auc", name, contrast, -self.rule.scenario_auc_loss)
        if self.rule.scenario_gauc_loss is not None:
            yield self._loss("gauc", name, contrast.gauc, -self.rule.scenario_gauc_loss)
        if self.rule.scenario_calibration is not None:
            yield self._calibration("scenario_calibration", name, self.rule.scenario_calibration)

    def _loss(self, figure: str, name: str, of: Contrast | GaucDifference | None, allowed: float) -> Reason:
        check = f"scenario_{figure}_loss"
        if of is None:
            text = (
                f"{name}: fewer than two users have rows of both labels, so that there is no {figure.upper()} to test"
            )
            return self._reason(check, True, None, allowed, text, name)
        lost = of.significant and of.value < allowed
        text = f"{name}: {figure.upper()} changes by {change(of.value)} ({_ends(of)}, p {of.adjusted_p:.2g})"
        limit = f"a significant change below {change(allowed)} holds"
        return self._reason(check, not lost, of.value, allowed, f"{text}; {limit}", name)

    def _calibration(self, check: str, name: str | None, allowed: Range) -> Reason:
        found = self.pooled[name].metrics.get("calibration")
        where = f"{name}: " if name else ""
        limits = f"{number(allowed[0], 2)} to {number(allowed[1], 2)} is allowed"
        if found is None:
            return self._reason(check, False, None, None, f"{where}no calibration: no positives", name)
        fits = allowed[0] <= found <= allowed[1]
        limit = allowed[0] if found < allowed[0] else allowed[1]
        text = f"{where}calibration is {number(found, 3)}, {limits}"
        return self._reason(check, fits, found, limit, text, name)

    def _unknown(self) -> Reason:
        found, allowed = self.pooled[None].unknown, self.rule.unknown
        if found is None:
            text = "which share of the values is unknown was not counted when the data were prepared"
            return self._reason("unknown", True, None, allowed, text)
        text = f"{share(found)} of the feature values are unknown, {share(allowed)} is allowed"
        return self._reason("unknown", found <= allowed, found, allowed, text)

    def _reason(
        self,
        check: str,
        passed: bool,
        found: float | None,
        allowed: float | None,
        text: str,
        scenario: str | None = None,
    ) -> Reason:
        return Reason(
            check=check, passed=passed, task=self.task, scenario=scenario, found=found, allowed=allowed, text=text
        )


def _challenger(record: BackfillRecord, name: str | None) -> JudgedModel:
    others = {model.name: model for model in record.models if model.name != record.champion}
    if not others:
        raise DataError("the gate compares a challenger with a champion, and one model was judged; judge both together")
    if name is None and len(others) > 1:
        raise ConfigError(f"several challengers: say which with --challenger NAME ({', '.join(others)})")
    if name is not None and name not in others:
        raise ConfigError(f"--challenger {name}: no such challenger; {nearest(name, others)}")
    return others[name] if name is not None else next(iter(others.values()))


def _counts(contrast: Contrast, rule: GateRule) -> bool:
    return contrast.rows >= rule.scenario_rows and contrast.positives >= rule.scenario_positives


def _by_scenario(model: JudgedModel, task: str) -> dict[str | None, Figures]:
    """The pooled figures of a task by scenario; None: of all rows."""
    return {of.scenario: of for of in model.pooled if of.task == task and of.part != "macro"}


def _ends(contrast: Contrast | GaucDifference) -> str:
    return f"{change(contrast.low)} to {change(contrast.high)}"
