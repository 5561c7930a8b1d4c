import numpy as np
import pytest

from keras_lrseg.layers import ConvolutionalFeedForward
from tests.helpers import fill, normal, run
from tests.reference import assert_golden, load_layer, state_of


@pytest.mark.parametrize(
    ("case", "stage", "block", "ratio", "shape"),
    [
        ("irb_stage1", 1, 0, 8, (2, 12, 10, 24)),
        ("irb_stage3", 3, 1, 4, (2, 7, 9, 96)),
    ],
)
def test_feed_forward_reproduces_the_authors_output(case, stage, block, ratio, shape):
    layer = load_layer(
        ConvolutionalFeedForward(ratio, name="feed_forward"),
        shape,
        f"stage{stage}/block{block}",
        state_of(f"backbone.block{stage}.{block}.mlp."),
    )
    batch, height, width, channels = shape
    x = normal(case, (batch, height * width, channels))
    y = run(layer, x.reshape(shape))
    assert_golden(y.reshape(x.shape), "layers.npz", case)


def test_without_depthwise_convolution_pixels_do_not_mix():
    x = normal("images", (1, 4, 5, 8))
    layer = ConvolutionalFeedForward(2, depthwise=False)
    layer.build(x.shape)
    fill(layer)
    changed = x.copy()
    changed[0, 1, 2] += 1
    difference = abs(run(layer, changed) - run(layer, x)).max(-1)
    assert np.argwhere(difference > 1e-6).tolist() == [[0, 1, 2]]
    assert [w.name for w in layer.weights] == ["kernel", "bias"] * 2
