"""Many structures at once through code that is written for one.

What is to be done with a structure is a generator, a *program*: it runs on the host, decides and branches as that
structure needs, and yields lists of `Call`s where heavy work is due. Run alone, each call is carried out as it comes;
run together, calls for the same function that programs happen to wait for are carried out as one batch. So structures
may take different ways (one needs a repair, its neighbour none), and still fill the device.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np

from .batching import batch_map, batch_width

T = TypeVar("T")
#: What a program is: it yields lists of calls, is sent the lists of their results, and returns a ``T``.
Program = Generator[list["Call"], list[Any], T]

#: Programs under way for each place in a batch: while some wait for one function, others fill the batch of another.
WINDOW = 4
#: Arguments of up to this many values are the same for two calls when they are equal, larger ones when they are one.
_SMALL = 64


class Batched:
    """A function ``f(shared, *own)`` compiled for one structure and, when needed, for a batch of them."""

    def __init__(self, function: Callable):
        self.one = eqx.filter_jit(function)
        self.many = eqx.filter_jit(batch_map(function))


@dataclass(frozen=True)
class Call:
    """Heavy work that a program asks for: ``function(shared, *own)``.

    Arguments:
        function: what to carry out.
        shared: pytree that all calls of a batch have in common, such as tables of the molecule.
        own: pytrees of arrays of this structure alone.
    """

    function: Batched
    shared: Any
    own: tuple[Any, ...]

    def kind(self) -> tuple:
        """Calls of equal kind may go into one batch."""
        shared, shared_tree = jax.tree.flatten(self.shared)
        own, own_tree = jax.tree.flatten(self.own)
        shapes = tuple((np.shape(leaf), np.asarray(leaf).dtype) for leaf in own)
        return id(self.function), tuple(map(_identity, shared)), shared_tree, shapes, own_tree


def call(function: Batched, shared: Any, *own: Any) -> Program[Any]:
    """The result of a single `Call`, for use as ``result = yield from call(...)``."""
    (result,) = yield [Call(function, shared, own)]
    return result


def alone(program: Program[T]) -> T:
    """The result of one program."""
    (result,) = together([program], window=1)
    return result


def together(programs: Iterable[Program[T]], *, width: int | None = None, window: int | None = None) -> Iterator[T]:
    """Results of many programs, in order, as they become ready.

    Arguments:
        programs: taken from the iterable only as others end, so it may be as long as a trajectory.
        width: calls of one batch; what suits the device when None (`jaxcg.batching.batch_width`).
        window: most programs under way; four for each place in a batch when None.
    """
    width = batch_width() if width is None else width
    window = WINDOW * width if window is None else window
    waiting, under_way, done = iter(programs), {}, {}
    count, given, exhausted = 0, 0, False
    while True:
        while len(under_way) < window and not exhausted:
            program = next(waiting, None)
            if program is None:
                exhausted = True
            else:
                under_way[count] = _Running(program)
                count += 1
        for number in [n for n, running in under_way.items() if running.finished]:
            done[number] = under_way.pop(number).result
        while given in done:
            yield done.pop(given)
            given += 1
        if under_way:
            _serve(list(under_way.values()), width)
        elif exhausted:
            return


def clock() -> float:
    """Seconds the program that asks has cost so far: its own and its share of batches, not those it waited for."""
    running = _current.get()
    return perf_counter() if running is None else running.busy + perf_counter() - running.resumed


class _Running:
    """A program under way and the calls it waits for."""

    def __init__(self, program: Program):
        self.program = program
        self.busy, self.resumed = 0.0, 0.0
        self.finished, self.result = False, None
        self._go_on(None)

    def _go_on(self, results: list[Any] | None) -> None:
        self.resumed, token = perf_counter(), _current.set(self)
        try:
            self.calls = next(self.program) if results is None else self.program.send(results)
        except StopIteration as stop:
            self.finished, self.result = True, stop.value
            return
        finally:
            _current.reset(token)
            self.busy += perf_counter() - self.resumed
        self.kinds = [c.kind() for c in self.calls]
        self.results: dict[int, Any] = {}
        if not self.calls:
            self._go_on([])

    def pending(self) -> Iterator[tuple[tuple, int]]:
        """Kind and number of each call without a result."""
        return ((kind, i) for i, kind in enumerate(self.kinds) if i not in self.results)

    def put(self, number: int, result: Any) -> None:
        """Takes the result of a call; the last one sets the program going again."""
        self.results[number] = result
        if len(self.results) == len(self.calls):
            self._go_on([self.results[i] for i in range(len(self.calls))])


_current: ContextVar[_Running | None] = ContextVar("program", default=None)


def _serve(running: list[_Running], width: int) -> None:
    """Carries out one batch: of the kind that most programs wait for, or, among equals, of the one asked for first."""
    groups: dict[tuple, deque[tuple[_Running, int]]] = {}
    for one in running:
        for kind, number in one.pending() if not one.finished else ():
            groups.setdefault(kind, deque()).append((one, number))
    if not groups:
        return
    chosen = list(max(groups.values(), key=lambda group: min(len(group), width)))[:width]
    since = perf_counter()
    results = _carry_out([one.calls[number] for one, number in chosen], width)
    share = (perf_counter() - since) / len(chosen)
    for (one, number), result in zip(chosen, results, strict=True):
        one.busy += share
        one.put(number, result)


def _carry_out(calls: list[Call], width: int) -> list[Any]:
    """Results of calls of one kind; a batch that is not full is filled up, so that there is one size to compile."""
    function, shared = calls[0].function, calls[0].shared
    if len(calls) == 1:
        return [jax.block_until_ready(function.one(shared, *calls[0].own))]
    filled = calls + [calls[0]] * (width - len(calls))
    own = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *(c.own for c in filled))
    results = jax.tree.map(np.asarray, function.many(shared, *own))
    return [jax.tree.map(lambda leaf, i=i: leaf[i], results) for i in range(len(calls))]


def _identity(leaf: Any) -> Any:
    """Something hashable that is equal for leaves which are the same in two calls."""
    if isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
        if leaf.size > _SMALL:
            return id(leaf)
        return leaf.shape, str(leaf.dtype), np.asarray(leaf).tobytes()
    return leaf
