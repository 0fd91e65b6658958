"""The sections of a plan's report on its gates, and on what the data cannot run."""

from pipelines.plan.state import PlanState
from recsys.evaluation.verdicts.holm import ALPHA
from recsys.report.html import Cell, Row, Section, Table, row


def gates_section(state: PlanState) -> Section:
    """The verdicts, with what each interval is drawn over, and the number of comparisons."""
    rows: list[Row] = []
    is_adjusted, final = state.plan.multiplicity == "holm", state.final_verdicts()
    for name, gate in state.plan.gates.items():
        for verdict in final[name]:
            for index, check in enumerate(verdict.checks):
                head: list[str | Cell] = ["", ""]
                tail = ["", ""]
                if index == 0:
                    head = [name, Cell(verdict.outcome, verdict.outcome)]
                    tail = [", ".join(f"{role}: {run}" for role, run in verdict.runs.items()), gate.description]
                result = verdict.result_of(check).replace(" ", "-")
                p = "" if check.adjusted_p is None else f"{check.adjusted_p:.2g}"
                figures = [check.value_text, check.interval_text, *([p] if is_adjusted else [])]
                cells = [*head, Cell(check.what, result), *figures, check.threshold, check.basis_text, *tail]
                rows.append(row(cells, "part" if index < len(verdict.checks) - 1 else ""))
    adjusted = ("Holm p",) if is_adjusted else ()
    columns = ("gate", "verdict", "check", "value", "95 % interval", *adjusted, "required", "interval over")
    columns = (*columns, "runs", "description")
    n, first = len(columns), len(columns) - 4
    text = f"{looks_text(state)} A rejected run cannot be chosen as the best run, but it stays in the ensemble."
    return Section("Gates", text, [Table(columns, tuple(rows), text_columns=(2, *range(first, n)))] if rows else [])


def looks_text(state: PlanState) -> str:
    """How many comparisons the gates made, and what the plan does about their number."""
    n = state.n_looks
    if state.plan.multiplicity == "holm":
        return (
            f"The gates made {n} comparisons: the last step adopts what passes with Holm's correction, so that any "
            f"criterion without a true gain passes with a probability of at most {100 * ALPHA:g} %."
        )
    return (
        f"The gates made {n} comparisons, each with its own 95 % interval; the more there are, the more likely is one "
        "that passes by chance (multiplicity: holm corrects for their number)."
    )


def not_applicable_section(state: PlanState) -> Section:
    """The steps, gates and evaluation rows that the data does not have."""
    not_applicable, missing = state.not_applicable, state.not_applicable.missing
    reasons = dict(not_applicable.steps)
    reasons |= {f"gate {name}": reason for name, reason in not_applicable.gates.items()}
    for title, reason in (("holdout", missing.holdout), ("forward windows", missing.forward)):
        if reason is not None:
            reasons[f"runs on the {title}"] = reason
    if missing.tuning is not None and _makes_choices(state):
        reasons["choices on a tuning part"] = f"{missing.tuning}: figures that depend on a choice say so"
    rows = tuple(row([name, reason]) for name, reason in reasons.items())
    table = Table(("step or gate", "why it did not run"), rows, text_columns=(1,))
    return Section("Not applicable", "", [table] if rows else [])


def _makes_choices(state: PlanState) -> bool:
    """Whether settings of some run were chosen on rows that figures are reported for."""
    rows = state.resolve("auto")
    names = [step.name for step in state.plan.steps if step.do == "rank"]
    return any(state.chosen_on_reported(name, rows) is not None for name in names)
