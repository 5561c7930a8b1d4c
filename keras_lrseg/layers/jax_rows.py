"""Weighted sums of a table's rows under JAX, in forms that XLA makes single loops of.

A product of gathered rows and weights writes all the rows first, value by value: on a
CPU it takes many times as long.
"""

import jax
import jax.numpy as jnp

UNCHECKED = "promise_in_bounds"  # an index of a row


@jax.custom_vjp
def weighted_rows(table, index, weight):
    """Sum over k of `weight[:, k] · table[index[:, k]]`, in float32.

    Args:
        table: (rows, depth).
        index, weight: (M, K); indices of rows, which are not checked.

    Returns:
        (M, depth), of the table's type.
    """
    rows = sum(
        weight[:, k, None].astype("float32") * _taken(table, index[:, k])
        for k in range(index.shape[1])
    )
    return rows.astype(table.dtype)


def _forward(table, index, weight):
    return weighted_rows(table, index, weight), (table, index, weight)


def _backward(inputs, gradient):
    table, index, weight = inputs
    values, gradient = table.reshape(-1), gradient.astype("float32")
    rows, depth = table.shape

    def add_column(total, column):
        index, weight = column
        total = total.at[index].add(weight[:, None] * gradient, mode=UNCHECKED)
        of_weight = sum(
            gradient[:, i] * _taken(values, index * depth + i) for i in range(depth)
        )
        return total, of_weight

    # A loop, since XLA would compute its results again for each use of them.
    total, of_weight = jax.lax.scan(
        add_column, jnp.zeros((rows, depth), "float32"), (index.T, weight.T)
    )
    return total.astype(table.dtype), None, of_weight.T.astype(weight.dtype)


weighted_rows.defvjp(_forward, _backward)


def _taken(values, index):
    return values.at[index].get(mode=UNCHECKED)
