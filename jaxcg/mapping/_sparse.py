"""A sparse matrix product made of gathers in both directions.

Reverse-mode differentiation turns a gather into a scatter-add, which is slow on every device. A sparse map
has a natural transpose that is a gather again (bead → atoms one way, atom → beads the other), so the product
is a primitive of its own that carries the tables of both and swaps them when transposed.

Rows are padded to one width where that wastes little, else sorted into classes of similar width, each with a table
of its own: a bead of ten thousand atoms among small ones costs what it has, not its width for every bead.
"""

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray, Tracer
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from scipy.sparse import coo_array

from ..typing import Array

#: Padded entries per true one, beyond which rows are sorted into classes of width.
_WASTE = 4
#: Tables up to this width and from this size on are summed slot by slot, which a CPU does twice as fast.
_UNROLLED_WIDTH, _UNROLLED_SIZE = 64, 2**15

_product_p = Primitive("jaxcg_sparse_product")


class SparseMatrix(eqx.Module):
    """A sparse (rows × columns) matrix as padded tables of its rows and of its columns.

    Build it with `SparseMatrix.of`; ``apply`` and ``apply_transpose`` are each other's transpose, gathers both.
    """

    _rows: tuple[Array | np.ndarray, ...]
    _columns: tuple[Array | np.ndarray, ...]
    n_rows: int = eqx.field(static=True)
    n_columns: int = eqx.field(static=True)

    @staticmethod
    def of(rows, columns, values, n_rows: int, n_columns: int) -> "SparseMatrix":
        """The matrix from its entries.

        Arguments:
            rows, columns: (entries,) integer coordinates, each pair once.
            values: (entries,) values; may be traced.
            n_rows, n_columns: its shape.
        """
        rows, columns = np.asarray(rows), np.asarray(columns)
        return SparseMatrix(
            _row_tables(rows, columns, values, n_rows), _row_tables(columns, rows, values, n_columns), n_rows, n_columns
        )

    def apply(self, x: Array | np.ndarray) -> Array:
        """Product with ``x``: (columns, ...) → (rows, ...), in the dtype of ``x``."""
        _check_length(x, self.n_columns)
        return _bind(self._rows, self._columns, x)

    def apply_transpose(self, v: Array | np.ndarray) -> Array:
        """Product of the transpose with ``v``: (rows, ...) → (columns, ...), in the dtype of ``v``."""
        _check_length(v, self.n_rows)
        return _bind(self._columns, self._rows, v)

    def entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Nonzero entries as ``(row, column, value)``."""
        tables = [np.asarray(table) for table in self._rows]
        place = tables.pop() if len(tables) % 2 else np.arange(self.n_rows)
        row_at = np.argsort(place)
        rows, columns, values, start = [], [], [], 0
        for index, weight in zip(tables[::2], tables[1::2], strict=True):
            slot, row = np.nonzero(weight)
            rows.append(row_at[start + row])
            columns.append(index[slot, row])
            values.append(weight[slot, row])
            start += index.shape[1]
        return np.concatenate(rows), np.concatenate(columns), np.concatenate(values)

    def matrix(self) -> coo_array:
        """The matrix as a SciPy sparse array."""
        rows, columns, values = self.entries()
        return coo_array((values, (rows, columns)), shape=(self.n_rows, self.n_columns))


def padded_rows(rows, columns, values, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Row-wise padded tables of a sparse matrix in coordinate form.

    Arguments:
        rows, columns: (entries,) integer coordinates.
        values: (entries,) weights.
        n_rows: number of rows.

    Returns:
        ``(index, weight)`` of shape (width, n_rows); padding has index 0 and weight 0.
    """
    rows, columns, values = np.asarray(rows), np.asarray(columns), np.asarray(values)
    # Small integers are sorted by radix, many times faster than by comparison.
    order = np.argsort(rows.astype(np.uint16) if n_rows <= 2**16 else rows, kind="stable")
    rows, columns, values = rows[order], columns[order], values[order]
    counts = np.bincount(rows, minlength=n_rows)
    slot = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    width = max(int(counts.max(initial=0)), 1)
    index = np.zeros((width, n_rows), dtype=np.int32)
    weight = np.zeros((width, n_rows), dtype=np.float64)
    index[slot, rows] = columns
    weight[slot, rows] = values
    return index, weight


def sparse_product(index, weight, index_t, weight_t, x: Array | np.ndarray) -> Array:
    """Product of a sparse (rows × columns) matrix with ``x``.

    Arguments:
        index, weight: (width, rows) tables of the matrix from `padded_rows`.
        index_t, weight_t: (width_t, columns) tables of its transpose.
        x: (columns, ...) array.

    Returns:
        (rows, ...) array in the dtype of ``x``.
    """
    return _bind((index, weight), (index_t, weight_t), x)


def _row_tables(rows, columns, values, n_rows: int) -> tuple[Array | np.ndarray, ...]:
    """Tables ``(index, weight, index, weight, ..., place)``, one pair for each class of row widths; ``place`` says
    where in the classes each row is, and is left out when there is one class."""
    counts = np.bincount(rows, minlength=n_rows)
    if int(counts.max(initial=0)) * n_rows <= _WASTE * (len(rows) + n_rows):
        return _filled(rows, columns, values, np.arange(len(rows)), n_rows)
    kind = np.ceil(np.log(np.maximum(counts, 1)) / np.log(_WASTE)).astype(int)
    order = np.argsort(kind, kind="stable")
    place = np.empty(n_rows, dtype=np.int32)
    place[order] = np.arange(n_rows, dtype=np.int32)
    tables, start = [], 0
    for size in np.bincount(kind):
        if size:
            inside = np.flatnonzero((place[rows] >= start) & (place[rows] < start + size))
            tables += _filled(place[rows[inside]] - start, columns[inside], values, inside, int(size))
        start += size
    return (*tables, place)


def _filled(rows, columns, values, chosen, n_rows: int):
    """One table of the entries ``chosen``, whose values may be traced."""
    if not isinstance(values, Tracer):
        return padded_rows(rows, columns, np.asarray(values)[chosen], n_rows)
    index, number = padded_rows(rows, columns, chosen + 1, n_rows)
    return index, jnp.concatenate([jnp.zeros(1, values.dtype), values])[number.astype(np.int32)]


def _check_length(x, expected: int):
    # Gathers would silently take the last row for those that are not there.
    if x.shape[0] != expected:
        raise ValueError(f"the map takes an array of {expected} atoms or beads, got one of shape {tuple(x.shape)}.")


def _bind(tables, tables_t, x) -> Array:
    operands = [jnp.asarray(table) for table in (*tables, *tables_t)]
    return cast(Array, _product_p.bind(*operands, jnp.asarray(x), own=len(tables), batched=False))


def _product(*operands, own: int, batched: bool):
    """Product with ``x`` (columns, ...), or with each of several, (batch, columns, ...)."""
    *tables, x = operands
    axis = int(batched)
    place = tables[own - 1] if own % 2 else None
    parts = [_table_product(tables[k], tables[k + 1], x, axis) for k in range(0, own - own % 2, 2)]
    out = parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=axis)
    return out if place is None else jnp.take(out, place, axis=axis, mode="clip")


def _table_product(index, weight, x, axis: int):
    weight = weight.reshape((1,) * axis + weight.shape + (1,) * (x.ndim - 1 - axis)).astype(x.dtype)
    width = index.shape[0]
    if width > _UNROLLED_WIDTH or index.size < _UNROLLED_SIZE:
        return jnp.sum(weight * jnp.take(x, index, axis=axis, mode="clip"), axis=axis)
    total = jnp.zeros((), x.dtype)
    for slot in range(width):
        column = jax.lax.index_in_dim(weight, slot, axis, keepdims=False)
        total = total + column * jnp.take(x, index[slot], axis=axis, mode="clip")
    return total


def _abstract(*operands, own: int, batched: bool):
    place, x = operands[own - 1], operands[-1]
    rows = place.shape[0] if own % 2 else operands[0].shape[1]
    return ShapedArray((x.shape[0], rows, *x.shape[2:]) if batched else (rows, *x.shape[1:]), x.dtype)


def _transpose(cotangent, *operands, own: int, batched: bool):
    tables = operands[:-1]
    if isinstance(cotangent, ad.Zero):
        return [None] * len(operands)
    turned = (*tables[own:], *tables[:own])
    return [None] * len(tables) + [_product_p.bind(*turned, cotangent, own=len(turned) - own, batched=batched)]


def _jvp(primals, tangents, *, own: int, batched: bool):
    tables = primals[:-1]
    out = _product_p.bind(*primals, own=own, batched=batched)
    dx = tangents[-1]
    if any(not isinstance(tangents[k], ad.Zero) for k in range(1, own, 2)):
        # Differentiating the weights (learned maps) takes the plain path.
        def plain(weights, x):
            every = list(tables)
            every[1 : own - own % 2 : 2] = weights
            return _product(*every, x, own=own, batched=batched)

        weights = [tables[k] for k in range(1, own - own % 2, 2)]
        dweights = [ad.instantiate_zeros(tangents[k]) for k in range(1, own - own % 2, 2)]
        out, dout = jax.jvp(plain, (weights, primals[-1]), (dweights, ad.instantiate_zeros(dx)))
        return out, dout
    if isinstance(dx, ad.Zero):
        return out, ad.Zero.from_primal_value(out)  # pyright: ignore[reportAttributeAccessIssue]
    return out, _product_p.bind(*tables, dx, own=own, batched=batched)


def _batch(arguments, axes, *, own: int, batched: bool):
    *tables, x = arguments
    if all(axis is None for axis in axes[:-1]):
        # One map, many configurations: the batch leads and is one with any batch there was.
        x = jnp.moveaxis(x, axes[-1], 0)
        flat = x.reshape(-1, *x.shape[2:]) if batched else x
        out = _product_p.bind(*tables, flat, own=own, batched=True)
        return out.reshape(*x.shape[:2], *out.shape[1:]) if batched else out, 0
    return jax.vmap(lambda *a: _product(*a, own=own, batched=batched), in_axes=tuple(axes))(*arguments), 0


def _compiled(*operands, own: int, batched: bool):
    return _jitted(*operands, own=own, batched=batched)


_jitted = jax.jit(_product, static_argnames=("own", "batched"))
_product_p.def_impl(_compiled)
_product_p.def_abstract_eval(_abstract)
ad.primitive_jvps[_product_p] = _jvp
ad.primitive_transposes[_product_p] = _transpose
batching.primitive_batchers[_product_p] = _batch
mlir.register_lowering(_product_p, mlir.lower_fun(_product, multiple_results=False))
