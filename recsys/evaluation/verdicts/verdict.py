"""A gate's decision, and the numbers that it is based on.

A gate never passes on a missing number. A gain counts only if its interval lies above zero, unless the criterion sets
`interval: reported`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel

from recsys.evaluation.shown import format_interval, format_metric, interval_sd

Outcome = Literal["adopt", "reject", "retry", "keep"]
"""keep: nothing had to be adopted, as what is there is already the best."""
STYLES: Mapping[Outcome, str] = {"adopt": "green", "keep": "green", "retry": "yellow", "reject": "red"}
"""Colors of printed outcomes."""
Role = Literal["decides", "reported", "not judged"]
"""Whether a check decides, is only reported, or could not be judged: a segment whose rows have one class."""


class Check(BaseModel):
    """A number compared with its threshold."""

    what: str
    value: float | None
    """None if the number is missing: the check fails."""
    threshold: str
    low: float | None = None
    high: float | None = None
    passed: bool
    is_gain: bool = True
    """Whether the value is a difference, which is shown with its sign."""
    role: Role = "decides"
    requirement: str = "gain"
    """Checks with the same requirement are alternatives: one of them has to pass."""
    baseline: str | None = None
    """The run that the value is a difference to."""
    basis: str = ""
    """What the interval is drawn over: clusters and seeds."""
    p_value: float | None = None
    """Of no difference, two-sided; None if the criterion requires no interval."""
    adjusted_p: float | None = None
    """The p-value after the correction for all comparisons of the plan's gates."""
    is_look: bool = False
    """Whether the check compares two models on evaluated rows, and could thus pass by chance."""
    notes: tuple[str, ...] = ()
    """What limits the value: a rough interval, a model that was chosen on the same rows."""

    @property
    def value_text(self) -> str:
        """The value as text for tables."""
        if self.role == "not judged":
            return self.role
        if self.value is None:
            return "missing"
        sd = None if self.low is None or self.high is None else interval_sd(self.low, self.high)
        return format_metric(self.value, sd, "+" if self.is_gain else "")

    @property
    def interval_text(self) -> str:
        """The interval bounds as text for tables; empty if the check has no interval."""
        return "" if self.low is None or self.high is None else format_interval(self.low, self.high)

    @property
    def basis_text(self) -> str:
        """Clusters, seeds and notes as text for tables."""
        return "; ".join(dict.fromkeys(text for text in (self.basis, *self.notes) if text))


Result = Literal["pass", "fail", "kept", "reported", "not judged"]


class Verdict(BaseModel):
    """The decision of a gate, with its checks."""

    gate: str
    outcome: Outcome
    runs: dict[str, str]
    """By role (candidate, baseline, retrieval, run): the evaluated run."""
    checks: list[Check]
    reason: str
    settings: tuple[str, ...] = ()
    """Overrides for later models that follow from the decision."""

    @property
    def is_adopted(self) -> bool:
        """Whether the gate passed."""
        return self.outcome in ("adopt", "keep")

    @property
    def n_looks(self) -> int:
        """The number of comparisons that the verdict is based on."""
        return sum(check.is_look for check in self.checks)

    def result_of(self, check: Check) -> Result:
        """The result of a check; `kept` if it failed because what is there is already the best."""
        if check.role != "decides":
            return check.role
        if check.passed:
            return "pass"
        return "kept" if self.outcome == "keep" else "fail"


def best_run(scores: Mapping[str, float | None], names: Sequence[str]) -> str | None:
    """The run with the highest score; None if no run has a score."""
    known_scores = {name: score for name in names if (score := scores.get(name)) is not None}
    return max(known_scores, key=lambda name: known_scores[name], default=None)
