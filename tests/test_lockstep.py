"""Programs for one structure, carried out together in batches."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.lockstep import Batched, Call, alone, call, clock, together


class Counting(Batched):
    """Counts what is carried out one at a time and in batches."""

    def __init__(self, function):
        super().__init__(function)
        self.sizes = []
        one, many = self.one, self.many

        def counted_one(shared, *own):
            self.sizes.append(1)
            return one(shared, *own)

        def counted_many(shared, *own):
            self.sizes.append(len(own[0]))
            return many(shared, *own)

        self.one, self.many = counted_one, counted_many


def halving(function, start):
    """Halves a number until it is odd: as many calls as that takes."""
    value, calls = jnp.asarray(start), 0
    while value % 2 == 0:
        value = yield from call(function, jnp.asarray(2), value)
        calls += 1
    return int(value), calls


@pytest.mark.parametrize("width", [1, 2, 3, 8])
def test_each_program_goes_its_own_way(width):
    function = Counting(lambda shared, value: value // shared)
    starts = [12, 7, 8, 48, 1, 1024, 6]
    found = list(together((halving(function, n) for n in starts), width=width))
    assert found == [(3, 2), (7, 0), (1, 3), (3, 4), (1, 0), (1, 10), (3, 1)]
    assert set(function.sizes) <= {1, width}
    if width == 3:
        assert function.sizes.count(3) >= 4


def test_results_come_in_order_and_programs_start_only_when_there_is_room():
    function = Batched(lambda shared, value: value // shared)
    started = []

    def programs():
        for n in itertools.count(1):
            started.append(n)
            yield halving(function, 2 ** (1 + n % 3))

    results = together(programs(), width=1, window=3)
    assert [next(results)[1] for _ in range(6)] == [2, 3, 1, 2, 3, 1]
    assert len(started) <= 6 + 3


def test_several_calls_at_once_and_none_at_all():
    function = Counting(lambda shared, value: value * shared)

    def program(values):
        results = yield [Call(function, jnp.asarray(3.0), (jnp.asarray(v),)) for v in values]
        return [float(r) for r in results]

    assert alone(program([1.0, 2.0])) == [3.0, 6.0]
    assert alone(program([])) == []
    assert list(together([program([1.0, 2.0]), program([]), program([5.0])], width=4)) == [[3.0, 6.0], [], [15.0]]
    assert function.sizes[-1] == 4


def test_only_calls_that_share_go_into_one_batch():
    function = Counting(lambda shared, value: value * shared)
    big = np.ones(100), np.full(100, 2.0)
    small = [np.float32(2), np.float32(3)]

    def program(shared, value):
        return np.asarray((yield from call(function, shared, np.asarray(value))))

    found = list(together((program(table, 1.0) for table in (big[0], big[1], big[0], big[1])), width=2))
    np.testing.assert_array_equal([f[0] for f in found], [1, 2, 1, 2])
    found = list(together((program(factor, 1.0) for factor in (small[0], small[1], np.float32(2), small[1])), width=2))
    assert [float(f) for f in found] == [2, 3, 2, 3]
    # Equal small values share; shapes that differ do not.
    assert function.sizes == [2, 2, 2, 2]
    list(together([program(small[0], [1.0]), program(small[0], [1.0, 2.0])], width=2))
    assert function.sizes[4:] == [1, 1]


def test_an_error_in_a_program_is_not_swallowed():
    function = Batched(lambda shared, value: value * shared)

    def program(fail):
        yield from call(function, jnp.asarray(1.0), jnp.asarray(1.0))
        if fail:
            raise ArithmeticError("third")
        return 1

    results = together((program(n == 2) for n in range(4)), width=2, window=1)
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ArithmeticError, match="third"):
        next(results)


def test_a_program_pays_for_its_share_only():
    function = Batched(lambda shared, value: value + shared)

    def program():
        since = clock()
        for _ in range(3):
            yield from call(function, jnp.asarray(1.0), jnp.asarray(1.0))
        return clock() - since

    before = clock()
    spent = list(together((program() for _ in range(4)), width=2))
    wall = clock() - before
    assert all(s > 0 for s in spent)
    assert sum(spent) <= wall
