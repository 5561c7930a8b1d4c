import numpy as np
import pytest

from keras_lrseg.layers import ChannelDropout, DropPath, LayerScale
from tests.helpers import normal, numpy, refused, tensors


def drop(layer, x, training=True):
    return numpy(layer(tensors(x), training=training))


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    samples, rate = 4000, 0.3
    y = drop(DropPath(rate, seed=1), np.ones((samples, 2, 3), "float32"))
    assert np.unique(y) == pytest.approx([0, 1 / (1 - rate)])
    assert (y == y[:, :1, :1]).all()
    # Five standard deviations of the mean of so many samples.
    assert y.mean() == pytest.approx(1, abs=5 * (rate / (1 - rate) / samples) ** 0.5)


def test_channel_dropout_drops_whole_channels_of_a_sample():
    y = drop(ChannelDropout(0.3, seed=1), np.ones((40, 2, 3, 50), "float32"))
    assert (y == y[:, :1, :1]).all()
    dropped = y[:, 0, 0] == 0  # (samples, channels)
    assert dropped.mean() == pytest.approx(0.3, abs=5 * 0.46 / 2000**0.5)
    assert not dropped.all(axis=0).any()
    assert not dropped.all(axis=1).any()


@pytest.mark.parametrize(("rate", "training"), [(0.0, True), (0.9, False)])
def test_drop_path_is_the_identity(rate, training):
    x = normal("x", (8, 2, 2, 3))
    np.testing.assert_array_equal(drop(DropPath(rate), x, training), x)


def test_drop_path_draws_anew_at_each_call_and_alike_for_a_seed():
    x = np.ones((64, 1), "float32")
    layer, again = DropPath(0.5, seed=7), DropPath(0.5, seed=7)
    first, second = drop(layer, x), drop(layer, x)
    assert (first != second).any()
    np.testing.assert_array_equal(drop(again, x), first)


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5])
def test_drop_path_refuses_what_is_no_probability(rate):
    with refused("0 <= rate < 1", f"rate={rate}"):
        DropPath(rate)


def test_layer_scale_starts_with_its_value_and_scales_each_channel():
    layer = LayerScale(1e-6)
    layer.build((None, 3))
    np.testing.assert_array_equal(layer.get_weights()[0], np.float32([1e-6] * 3))
    layer.set_weights([np.float32([1, 2, -3])])
    y = numpy(layer(tensors(np.ones((2, 2, 3), "float32"))))
    np.testing.assert_array_equal(y, np.broadcast_to(np.float32([1, 2, -3]), y.shape))
