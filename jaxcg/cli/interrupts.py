"""Interruption that is never lost: Ctrl-C and SIGTERM raise in the main thread, wherever it is.

An exception raised while Python runs a garbage-collection callback or a finaliser is printed and dropped; JAX has such
a callback, and a signal often arrives in it. So a signal that finds the interpreter in one is raised a moment later,
and once more when it has had no effect.
"""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_DROPPING = ("_xla_gc_callback", "__del__", "remove", "_remove")
#: Seconds until a signal that found such a function is raised, and until one that was raised in vain is raised again.
_LATER, _AGAIN = 0.02, 10.0


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception: no handler on the way may swallow it."""


@contextlib.contextmanager
def prompt_interrupts() -> Iterator[None]:
    """Within it SIGINT raises KeyboardInterrupt and SIGTERM `Terminated`; outside the main thread nothing changes."""
    raised = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
    waiting: list[int] = []

    def arrived(number: int, frame: FrameType | None) -> None:
        if number in raised:
            waiting[:] = [number]
        if not waiting:
            return
        dropped = hasattr(signal, "setitimer") and _drops_exceptions(frame)
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, _LATER if dropped else _AGAIN)
        if not dropped:
            raise raised[signal.Signals(waiting[0])]

    handled = [*raised, *([signal.SIGALRM] if hasattr(signal, "SIGALRM") else [])]
    before = {}
    with contextlib.suppress(ValueError):  # outside the main thread the caller owns the signals
        before = {number: signal.signal(number, arrived) for number in handled}
    try:
        yield
    finally:
        waiting.clear()
        if hasattr(signal, "setitimer") and before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _drops_exceptions(frame: FrameType | None) -> bool:
    """Whether an exception raised at ``frame`` would be printed and forgotten."""
    while frame is not None:
        if frame.f_code.co_name in _DROPPING:
            return True
        frame = frame.f_back
    return False
