"""A live progress line: title, percentage, note, rows per second, remaining time."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import ProgressColumn as RichColumn
from rich.text import Text

console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)  # user text may hold "[" and ":"
if not console.is_terminal:
    console.width = 160  # a log file has no fixed width


_is_hidden = False


def hide_progress_lines() -> None:
    """Hides the progress and status lines of this process: those of several processes would overwrite each other."""
    global _is_hidden
    _is_hidden = True


class _Speed(RichColumn):
    def render(self, task: Task) -> Text:
        """The recent speed of a task."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {task.fields['unit']}/s", style="cyan")


class ProgressLine:
    """A progress bar over rows or another unit, with a note such as step and loss."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, n: int, note: str = "") -> None:
        """Adds n finished units and shows a note."""
        self._progress.update(self._task, advance=n, note=note)


@contextmanager
def progress_line(title: str, n: int, is_shown: bool = True, unit: str = "rows") -> Iterator[ProgressLine]:
    """Shows a progress line while the block runs. It disappears at the end and is not written to log files."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[note]}", markup=False),
        _Speed(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=_is_hidden or not (is_shown and console.is_terminal)
    ) as progress:
        yield ProgressLine(progress, progress.add_task(title, total=n, note="", unit=unit))


def status_line(text: str) -> AbstractContextManager[Any]:
    """Shows a text with a spinner while the block runs. It disappears at the end and is not written to log files."""
    return nullcontext() if _is_hidden else console.status(text)
