"""A sparse matrix product made of gathers in both directions.

Reverse-mode differentiation turns a gather into a scatter-add, which is slow on every device. A sparse map
has a natural transpose that is a gather again (bead → atoms one way, atom → beads the other), so the product
is a primitive of its own that carries both tables and swaps them when transposed.
"""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ..typing import Array

_product_p = Primitive("jaxcg_sparse_product")


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


def _product(index, weight, index_t, weight_t, x):
    del index_t, weight_t
    weight = weight.reshape(weight.shape + (1,) * (x.ndim - 1))
    return jnp.sum(weight.astype(x.dtype) * x[index], axis=0)


def sparse_product(index, weight, index_t, weight_t, x: Array | np.ndarray) -> Array:
    """Product of a sparse (rows × columns) matrix with ``x``.

    Arguments:
        index, weight: (width, rows) tables of the matrix from `padded_rows`.
        index_t, weight_t: (width_t, columns) tables of its transpose.
        x: (columns, ...) array.

    Returns:
        (rows, ...) array in the dtype of ``x``.
    """
    x = jnp.asarray(x)
    return cast(
        Array, _product_p.bind(jnp.asarray(index), jnp.asarray(weight), jnp.asarray(index_t), jnp.asarray(weight_t), x)
    )


def _abstract(index, weight, index_t, weight_t, x):
    return ShapedArray((index.shape[1], *x.shape[1:]), x.dtype)


def _transpose(cotangent, index, weight, index_t, weight_t, x):
    del x
    if isinstance(cotangent, ad.Zero):
        return [None, None, None, None, None]
    return [None, None, None, None, sparse_product(index_t, weight_t, index, weight, cotangent)]


def _jvp(primals, tangents):
    index, weight, index_t, weight_t, x = primals
    out = sparse_product(index, weight, index_t, weight_t, x)
    dx, dweight = tangents[4], tangents[1]
    if not isinstance(dweight, ad.Zero):
        # Differentiating the weights (learned maps) takes the plain path.
        return jax.jvp(
            lambda w, v: _product(index, w, index_t, weight_t, v), (weight, x), (dweight, ad.instantiate_zeros(dx))
        )
    if isinstance(dx, ad.Zero):
        return out, ad.Zero.from_primal_value(out)  # pyright: ignore[reportAttributeAccessIssue]
    return out, sparse_product(index, weight, index_t, weight_t, dx)


def _batch(arguments, axes):
    index, weight, index_t, weight_t, x = arguments
    if all(axis is None for axis in axes[:4]):
        # One map, many configurations: the batch becomes trailing columns of one product.
        x = jnp.moveaxis(x, axes[4], -1)
        out = sparse_product(index, weight, index_t, weight_t, x)
        return out, out.ndim - 1
    in_axes = tuple(None if axis is None else axis for axis in axes)
    return jax.vmap(_product, in_axes=in_axes)(*arguments), 0


_product_p.def_impl(jax.jit(_product))
_product_p.def_abstract_eval(_abstract)
ad.primitive_jvps[_product_p] = _jvp
ad.primitive_transposes[_product_p] = _transpose
batching.primitive_batchers[_product_p] = _batch
mlir.register_lowering(_product_p, mlir.lower_fun(_product, multiple_results=False))
