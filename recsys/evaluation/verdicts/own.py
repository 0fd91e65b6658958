"""The verdict of a gate of the user's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from recsys.errors import InputError
from recsys.evaluation.gates import OwnGate
from recsys.evaluation.logits import Logits
from recsys.evaluation.verdicts.verdict import Check, Verdict
from recsys.own_code import name_object


@dataclass(frozen=True, eq=False)
class EvaluatedRows:
    """The reported predictions of a run, on the rows that all runs of the gate have, in the same order."""

    label: np.ndarray
    """[n] 0 / 1."""
    logits: Logits
    """The means over seeds; `.p` has the probabilities."""
    by_seed: Sequence[Logits]
    """The logits of each seed."""
    weight: np.ndarray | None
    """[n] weights; None if rows have none."""
    user: np.ndarray | None
    """[n] integers, -1 for a row without a user; None if the data names no user."""
    day: np.ndarray | None
    """[n] integers in the order of time, -1 for a row without a day; None if the data names no day."""


class GateFunction(Protocol):
    """The function of a gate: compares the first run with the others, or looks at it alone."""

    def __call__(self, runs: Mapping[str, EvaluatedRows]) -> Check | Sequence[Check]:
        """Returns what was checked, by the rows of each run; the gate adopts if every check that decides has passed."""
        ...


def own_verdict(name: str, gate: OwnGate, runs: Mapping[str, EvaluatedRows] | None) -> Verdict:
    """Adopts if every check of the function that decides has passed.

    Args:
        name: the name of the gate.
        gate: the gate.
        runs: the evaluated rows by run, in the order of the gate; None if a run is not finished.

    Raises:
        InputError: if the function returns something else than checks.
    """
    by_role = {"candidate": gate.candidate}
    by_role |= {f"baseline {number}": run for number, run in enumerate(gate.baselines, 1)}
    if runs is None:
        reason = f"{' or '.join(gate.runs)} is not finished: nothing was checked"
        return Verdict(gate=name, outcome="reject", runs=by_role, checks=[], reason=reason)
    found = cast(GateFunction, name_object(gate.function))(runs)
    checks = [found] if isinstance(found, Check) else list(found)
    if not checks or not all(isinstance(check, Check) for check in checks):
        raise InputError(f"gate {name}: {gate.function} must return a Check or several, got {found!r}")
    passed = all(check.passed for check in checks if check.role == "decides")
    reason = f"{gate.candidate} {'passes' if passed else 'does not pass'} {gate.function}"
    return Verdict(gate=name, outcome="adopt" if passed else "reject", runs=by_role, checks=checks, reason=reason)
