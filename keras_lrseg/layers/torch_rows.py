"""Weighted sums of a table's rows under PyTorch."""

import torch
import torch.nn.functional as F


def weighted_rows(table, index, weight):
    """Sum over k of `weight[:, k] · table[index[:, k]]`, as one operator.

    It never holds what it reads.

    Args:
        table: (rows, depth).
        index, weight: (M, K).

    Returns:
        (M, depth), of the table's type.
    """
    dtype = table.dtype
    if dtype == torch.bfloat16:  # a GPU has no gradient of the weights in it
        table = table.float()
    rows = F.embedding_bag(
        index, table, per_sample_weights=weight.to(table.dtype), mode="sum"
    )
    return rows.to(dtype)
