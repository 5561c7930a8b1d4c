import numpy as np
import pytest
import torch

from keras_lrseg.evaluation import resize as module
from keras_lrseg.evaluation.resize import (
    resize,
    resize_image,
    resize_rows,
    strips,
)
from tests.helpers import normal

SIZES = [
    ((12, 17), (24, 34)),
    ((12, 17), (31, 9)),
    ((40, 33), (40, 71)),
    ((9, 8), (3, 8)),
]


@pytest.mark.parametrize(("size", "target"), [*SIZES, ((704, 3), (683, 3))])
def test_values_are_pytorchs(size, target):
    array = normal("array", (*size, 5))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(array.transpose(2, 0, 1)[None]), target, mode="bilinear"
    )
    expected = expected[0].permute(1, 2, 0).numpy()
    result = resize(array, target)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("height", [1, 2, 100])
@pytest.mark.parametrize(("size", "target"), [*SIZES, ((50, 7), (2, 9))])
def test_rows_in_blocks_are_those_of_the_whole(size, target, height, monkeypatch):
    monkeypatch.setattr(module, "STRIP", 4 * target[1] * 5)
    array = normal("array", (*size, 5))
    below = np.full((3, size[1], 5), np.nan, "float32")  # not part of the array
    rows = np.concatenate([array, below])
    blocks = (rows[y : y + height] for y in range(0, len(rows), height))
    parts = list(resize_rows(blocks, len(array), target))
    assert [len(part) for part in parts[:-1]] == [4] * (len(parts) - 1)
    np.testing.assert_array_equal(np.concatenate(parts), resize(array, target))


def test_a_row_that_exceeds_a_strip_is_one():
    rows = list(strips((2, module.STRIP), 3))
    assert [(row.start, row.stop) for row in rows] == [(0, 1), (1, 2)]


def test_resizing_does_not_change_its_input():
    array = normal("array", (6, 7, 2))
    before = array.copy()
    resize(array, (13, 5))
    resize(array, (6, 7))
    np.testing.assert_array_equal(array, before)


def test_bytes_are_rounded_and_floats_are_not():
    image = np.array([[[0, 10, 255]], [[1, 20, 255]]], "uint8")
    small = resize_image(image, (4, 1))
    assert small.dtype == np.uint8
    assert small[:, 0].tolist() == [
        [0, 10, 255],
        [0, 12, 255],  # 0.25, and 12.5 to the even
        [1, 18, 255],
        [1, 20, 255],
    ]
    exact = resize_image(image.astype("float32"), (4, 1))
    assert exact[:, 0, 1].tolist() == [10, 12.5, 17.5, 20]


def test_image_of_the_size_is_left_alone():
    image = np.zeros((5, 6, 3), "uint8")
    assert resize_image(image, (5, 6)) is image
