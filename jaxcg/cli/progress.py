"""Progress of every stage on standard error: bars on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any


class Progress:
    """Shows stages as they run; call it as ``progress(stage, done, total)``.

    As a context manager it draws and, at the end, restores the terminal. A stage begins with the first call that names
    it. ``seconds`` holds how long each stage took, in the order they began.

    Arguments:
        quiet: show nothing.
    """

    def __init__(self, *, quiet: bool = False):
        self.seconds: dict[str, float] = {}
        self._quiet = quiet
        self._display: Any = None
        self._tasks: dict[str, Any] = {}
        self._current: str | None = None
        self._began = 0.0

    def __enter__(self) -> "Progress":
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars

            self._display = Bars(
                SpinnerColumn(finished_text="[green]✓"),
                TextColumn("{task.description}"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
            )
            self._display.start()
        return self

    def __exit__(self, kind, *exception) -> None:
        self._close(finished=kind is None)
        if self._display is not None:
            self._display.stop()

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Says that ``done`` of ``total`` steps of ``stage`` are done; ``note`` is shown beside its name."""
        if stage != self._current:
            self._close(finished=True)
            self._current, self._began = stage, time.perf_counter()
            if self._display is not None and stage not in self._tasks:
                self._tasks[stage] = self._display.add_task(stage, total=max(total, 1))
        if self._display is not None:
            named = f"{stage} ({note})" if note else stage
            self._display.update(self._tasks[stage], completed=done, total=max(total, 1), description=named)

    def _close(self, *, finished: bool) -> None:
        stage = self._current
        if stage is None:
            return
        took = time.perf_counter() - self._began
        first = stage not in self.seconds
        self.seconds[stage] = self.seconds.get(stage, 0.0) + took
        self._current = None
        if self._display is not None:
            if finished:
                total = self._display.tasks[self._tasks[stage]].total
                self._display.update(self._tasks[stage], completed=total)
        elif not self._quiet and finished and first:
            print(f"{stage}: {took:.1f} s", file=sys.stderr, flush=True)
