"""Parts of a data set."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from keras_lrseg.data.files import CorruptFile


class Picked(Sequence):
    """Items of another sequence, each taken when asked for: images may be large."""

    def __init__(self, source: Sequence, indices: Sequence[int]):
        self.source, self.indices = source, [operator.index(i) for i in indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.source[self.indices[index]]


def readable_indices(
    dataset: Sequence, progress: Callable[[int, int], None] | None
) -> tuple[list[int], list[str]]:
    """The indices whose items can be decoded, and the messages of the others."""
    readable, messages = [], []
    for i in range(len(dataset)):
        try:
            dataset[i]
            readable.append(i)
        except CorruptFile as error:
            messages.append(str(error))
        if progress:
            progress(i + 1, len(dataset))
    if not readable:
        raise ValueError(
            f"None of the {len(dataset)} images can be used; the first: {messages[0]}"
        )
    return readable, messages
