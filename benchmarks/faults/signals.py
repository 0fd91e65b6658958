"""The faults that are signals: SIGKILL, and SIGINT from the first import of a pipeline to the end of its process."""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess

from benchmarks.faults.disturbed import Command, Row, run_again, state_of
from benchmarks.faults.started import is_ended_within, run_as_user
from pipelines.common.interrupt import EXIT_INTERRUPTED
from recsys.system.progress import console


def count(outcomes: list[str]) -> str:
    """The outcomes and how often each occurs, as text."""
    return ", ".join(f"{n} x {outcome}" for outcome, n in Counter(outcomes).items())


def signals_at_random(command: Command, sent: signal.Signals, delays_s: list[float]) -> Row:
    """Sends a signal after each delay, each to a new run, and runs the command again after each."""
    messages, states, second, fine = [], [], [], []
    for number, delay_s in enumerate(delays_s):
        out = command.out(f"{sent.name}-{number}")
        first = command.run(out, on_start=partial(_send_after, delay_s, sent))
        expected = -signal.SIGKILL if sent is signal.SIGKILL else EXIT_INTERRUPTED
        is_expected = first.code in (expected, 0) and not first.has_traceback
        if not is_expected or first.has_stacks:
            console.print(f"{sent.name} {delay_s:.4f} s after the start of {out}: {first.outcome}\n{first.stderr}")
        if first.code != expected:
            messages.append(first.outcome.removesuffix(": -"))
        elif first.has_stacks:
            messages.append("ended at the deadline after the signal")
        else:
            messages.append(f"ended by the signal: {first.last_line}".removesuffix(": -"))
        states.append(state_of(out))
        second_result, same = run_again(command, out)
        second.append(second_result)
        fine.append(same and is_expected)
    fault = f"{command.name}: {sent.name}, {len(delays_s)} random moment{'s' * (len(delays_s) > 1)}"
    return Row(fault, count(messages), count(states), count(second), all(fine))


def _send_after(delay_s: float, sent: signal.Signals, process: BaseProcess) -> None:
    process.join(delay_s)
    if process.exitcode is None and process.pid is not None:
        os.kill(process.pid, sent)


def while_importing(command: Command, delay_s: float) -> Row:
    """Sends SIGINT during the imports of a pipeline, some seconds after its start."""

    def send(process: subprocess.Popen[str]) -> None:
        if not is_ended_within(process, delay_s):
            process.send_signal(signal.SIGINT)

    return _interrupted(command, f"SIGINT during imports, after {delay_s:.1f} s", send, (EXIT_INTERRUPTED,))


def while_ending(command: Command, delay_s: float) -> Row:
    """Sends SIGINT in the last moments of a pipeline, some seconds after its output got its final name."""
    out = command.out("interrupted")

    def send(process: subprocess.Popen[str]) -> None:
        while not out.exists() and process.poll() is None:
            time.sleep(0.001)
        if not is_ended_within(process, delay_s):
            process.send_signal(signal.SIGINT)

    fault = f"SIGINT in its last moments, {delay_s:.2f} s after its output is complete"
    return _interrupted(command, fault, send, (EXIT_INTERRUPTED, 0))


def _interrupted(
    command: Command, fault: str, send: Callable[[subprocess.Popen[str]], object], expected_codes: tuple[int, ...]
) -> Row:
    out = command.out("interrupted")
    first = run_as_user([command.name, *command.arguments, "--out", str(out)], send)
    left = state_of(out)
    second, same = run_again(command, out)
    is_fine = first.code in expected_codes and not first.has_traceback and same
    if not is_fine or first.has_stacks:
        console.print(f"{command.name}: {fault}: {first.outcome}\n{first.stderr}")
    return Row(f"{command.name}: {fault}", first.outcome, left, second, is_fine)
