"""Signals of the command line: none is lost, wherever the interpreter is."""

import signal
import time

import pytest

from jaxcg.cli.interrupts import Terminated, prompt_interrupts


class Finalised:
    """Sends a signal while Python finalises it, where an exception would be dropped."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


def finalise_and_wait(number):
    made = Finalised(number)
    del made
    time.sleep(5)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_raises_at_once_or_after_a_finaliser(number, error):
    before = signal.getsignal(number)
    with pytest.raises(error), prompt_interrupts():
        signal.raise_signal(number)
    with pytest.raises(error), prompt_interrupts():
        finalise_and_wait(number)
    assert signal.getsignal(number) is before
