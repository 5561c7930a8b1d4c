from functools import partial
from unittest import mock

import numpy as np
import pytest

from keras_lrseg.decoders import DeformablePixelDecoder
from keras_lrseg.layers.position_embedding import relative_positions, sine_embedding
from tests.checks import check_layer
from tests.helpers import no_weights, refused, run
from tests.reference import manifest

PYRAMID = {
    "P2": (2, 9, 14, 6),
    "P3": (2, 5, 7, 8),
    "P4": (2, 3, 4, 10),
    "P5": (2, 2, 2, 12),
}
small = partial(
    DeformablePixelDecoder, 32, depth=1, num_heads=4, num_points=2, hidden_channels=48
)


def test_decoder_is_a_well_behaved_layer():
    larger = {k: (b, h + 2, w + 1, c) for k, (b, h, w, c) in PYRAMID.items()}
    # One layer: all start with the same offsets. Half precision moves positions.
    with mock.patch("tests.checks.HALF_PRECISION", 0.25):
        check_layer(small, PYRAMID, larger)


def test_positions_are_the_centres_of_the_pixels():
    positions = run(lambda x: relative_positions((2, 4)), 0)
    assert positions.shape == (1, 2, 4, 2)
    np.testing.assert_allclose(positions[0, :, 0, 1], [0.25, 0.75])
    np.testing.assert_allclose(positions[0, 0, :, 0], [0.125, 0.375, 0.625, 0.875])


def test_sine_embedding_is_that_of_detr():
    rows, columns = 3, 5
    expected = np.zeros((rows, columns, 8))
    for i in range(rows):
        for j in range(columns):
            for half, n, size in ((0, i, rows), (4, j, columns)):
                for k in range(4):
                    angle = 2 * np.pi * (n + 1) / size / 10_000 ** (k // 2 * 2 / 4)
                    expected[i, j, half + k] = (np.sin, np.cos)[k % 2](angle)
    (embedding,) = run(lambda x: sine_embedding((rows, columns), 8), 0)
    np.testing.assert_allclose(embedding, expected, atol=2e-6)


def test_parameters_are_those_of_the_published_decoder():
    prefix = "decode_head.pixel_decoder."
    published = [
        np.prod(shape)
        for key, shape in manifest("mask2former_swin_t_ol").items()
        if key.startswith(prefix)
    ]
    with no_weights():
        decoder = DeformablePixelDecoder()
        widths = {"P2": 96, "P3": 192, "P4": 384, "P5": 768}
        decoder.build({k: (None, None, None, n) for k, n in widths.items()})
    assert decoder.count_params() == sum(published) == 5_421_504


@pytest.mark.parametrize("missing", ["P2", "P4"])
def test_missing_level_is_named(missing):
    pyramid = {level: shape for level, shape in PYRAMID.items() if level != missing}
    for method in ("build", "compute_output_shape"):
        with refused("DeformablePixelDecoder expects", "['P2', 'P3', 'P4', 'P5']"):
            getattr(small(), method)(pyramid)


def test_channels_that_make_no_groups_are_refused():
    with refused("multiples of 32", "channels=48"):
        DeformablePixelDecoder(48)
