"""What arguments of layers and models have in common."""

import operator


def as_integer(value) -> int | None:
    """Return an integer, NumPy's too, as Python's; None for anything else."""
    try:
        return operator.index(value)
    except TypeError:
        return None
