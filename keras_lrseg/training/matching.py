"""Bipartite matching of masks and queries, exact and inside the graph."""

from keras import ops

HUGE = 1e9  # instead of a cost that is not finite


def match(costs, counts):
    """Assign a column to each row so that the sum of costs is the least possible.

    Many problems at once, by shortest augmenting paths. Float32 decides what is least:
    assignments whose sums differ by less than its rounding count as equal.

    Args:
        costs: float32 (N, R, Q), R <= Q; a cost that is not finite is chosen last.
        counts: int32 (N,), how many rows each problem has; the others are left out.

    Returns:
        int32 (N, Q): the row of each column, -1 for none.

    Reference: Jonker and Volgenant, "A shortest augmenting path algorithm for dense and
    sparse linear assignment problems", Computing 38, 1987.
    """
    costs = ops.nan_to_num(costs, nan=HUGE, posinf=HUGE, neginf=-HUGE)
    problems, rows, columns = ops.shape(costs)
    lines = ops.reshape(costs, (-1, columns))  # (N*R, Q)
    first = ops.arange(problems, dtype="int32") * rows
    column = ops.arange(columns, dtype="int32")
    nothing = ops.zeros_like(counts)

    def take(values, at):
        """`values[n, at[n]]` of (N, Q) and (N,); 0 where there is no column, -1."""
        return ops.sum(ops.where(column == at[:, None], values, 0), axis=1)

    def add(row, owners, prices):
        """Assign one more row of every problem; columns change their owners."""

        def search(running, at, length, lengths, previous, reached):
            # From the row of the last column reached, or from the new one.
            owner = ops.where(at < 0, row, ops.maximum(take(owners, at), 0))
            line = ops.take(lines, first + owner, axis=0) - prices  # (N, Q)
            start = length - take(line, at)
            new = start[:, None] + line
            unreached = ops.logical_not(reached)
            shorter = ops.logical_and(unreached, new < lengths)
            shorter = ops.logical_and(shorter, running[:, None])
            lengths = ops.where(shorter, new, lengths)
            previous = ops.where(shorter, at[:, None], previous)
            nearest = ops.argmin(ops.where(reached, float("inf"), lengths), axis=1)
            at = ops.where(running, ops.cast(nearest, "int32"), at)
            length = ops.where(running, take(lengths, at), length)
            found = ops.logical_and(running[:, None], column == at[:, None])
            reached = ops.logical_or(reached, found)
            running = ops.logical_and(running, take(owners, at) >= 0)
            return running, at, length, lengths, previous, reached

        active = row < counts
        _, at, length, lengths, previous, reached = ops.while_loop(
            lambda running, *_: ops.any(running),
            search,
            (
                active,
                nothing - 1,
                ops.cast(nothing, "float32"),
                ops.full_like(owners, float("inf"), dtype="float32"),
                ops.full_like(owners, -1),
                ops.zeros_like(owners, dtype="bool"),
            ),
        )
        prices = prices + ops.where(reached, lengths - length[:, None], 0.0)

        def hand_over(at, owners):
            """The column takes the row of the one before it on the path."""
            before = take(previous, at)
            owner = ops.where(before < 0, row, take(owners, before))
            owners = ops.where(column == at[:, None], owner[:, None], owners)
            return ops.where(at < 0, -1, before), owners

        _, owners = ops.while_loop(
            lambda at, _: ops.any(at >= 0), hand_over, (at, owners)
        )
        return row + 1, owners, prices

    _, owners, _ = ops.while_loop(
        lambda row, *_: row < ops.max(counts),
        add,
        (
            ops.zeros((), "int32"),
            ops.full((problems, columns), -1, "int32"),
            ops.zeros((problems, columns), "float32"),
        ),
    )
    return owners
