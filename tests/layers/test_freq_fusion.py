"""FreqFusion and its resampler against the authors' numbers."""

import numpy as np
import pytest
from keras import ops

from keras_lrseg.checkpoints.offseg import DECODER
from keras_lrseg.layers import FreqFusion, SimilarityGuidedResampler
from keras_lrseg.layers.similarity_resampler import (
    cosine_similarities,
    interleave,
    read_bilinearly,
)
from tests.helpers import fill, normal, numpy, refused, run
from tests.reference import (
    assert_offseg,
    assert_offseg_gradients,
    load_layer,
    offseg_inputs,
    offseg_state,
)


def reference_layer(layer, name, inputs):
    shapes = [x.shape for x in inputs]
    return load_layer(layer, shapes, "", offseg_state(name), DECODER)


@pytest.mark.parametrize("name", ["freqfusion", "freqfusion_t1"])
def test_both_maps_are_the_authors(name):
    inputs = list(offseg_inputs(name).values())
    layer = reference_layer(FreqFusion(), name, inputs)
    high, low = run(layer, inputs)
    assert_offseg(high, f"{name}/hr_feat")
    assert_offseg(low, f"{name}/lr_feat")


def test_gradients_are_the_authors():
    inputs = list(offseg_inputs("freqfusion").values())
    layer = reference_layer(FreqFusion(), "freqfusion", inputs)
    assert_offseg_gradients(layer, "freqfusion", DECODER, inputs)


def test_resampler_and_its_gradients_are_the_authors():
    name = "local_sim_sampler"
    inputs = list(offseg_inputs(name).values())
    layer = reference_layer(SimilarityGuidedResampler(), name, inputs)
    assert_offseg(run(layer, inputs), f"{name}/out")
    assert_offseg_gradients(layer, name, DECODER, inputs)


@pytest.mark.parametrize("dilation", [1, 2])
def test_similarities_are_the_authors(dilation):
    name = f"compute_similarity_d{dilation}"
    output = run(lambda x: cosine_similarities(x, dilation), offseg_inputs(name)["x"])
    assert_offseg(output, f"{name}/out")


def test_similarity_of_empty_pixels_is_zero():
    assert not run(lambda x: cosine_similarities(x, 2), np.zeros((1, 4, 5, 8))).any()


def read(x, offset):
    return run(lambda inputs: read_bilinearly(*inputs), [x, offset])


@pytest.mark.parametrize("size", [(5, 7), (1, 6), (6, 1), (1, 1)])
def test_no_offset_reads_the_map_itself(size):
    x = normal("map", (2, *size, 8))
    np.testing.assert_array_equal(read(x, np.zeros((2, *size, 8), "float32")), x)


def test_each_group_reads_where_its_own_offset_points():
    x = normal("map", (2, 6, 9, 8))
    columns, rows = (0, 1, -2, 0.25), (0, -1, 100, 0.5)
    offset = np.broadcast_to(np.float32([*columns, *rows]), x.shape)
    output = read(x, offset)
    expected = [x[..., :2]]
    expected.append(x[:, np.clip(np.arange(-1, 5), 0, 5)][:, :, [*range(1, 9), 8]])
    expected.append(x[:, [5] * 6][:, :, np.clip(np.arange(-2, 7), 0, 8)])
    below, right = x[:, [*range(1, 6), 5]], [*range(1, 9), 8]
    between = (x + below) / 2
    expected.append(0.75 * between + 0.25 * between[:, :, right])
    for group, y in enumerate(expected):
        y = y if group == 0 else y[..., 2 * group : 2 * group + 2]
        np.testing.assert_allclose(
            output[..., 2 * group : 2 * group + 2], y, rtol=1e-5, atol=1e-6
        )


def test_position_that_is_no_number_gives_none():
    offset = np.zeros((1, 2, 3, 8), "float32")
    offset[0, 1, 1, 1] = np.nan
    output = read(np.ones((1, 2, 3, 8), "float32"), offset)
    expected = np.zeros(output.shape, bool)
    expected[0, 1, 1, 2:4] = True
    np.testing.assert_array_equal(np.isnan(output), expected)


def test_interleaving_cuts_the_last_row_and_column_of_odd_sizes():
    x = normal("map", (2, 3, 4, 12))
    whole = numpy(interleave(ops.convert_to_tensor(x), (6, 8)))
    assert whole.shape == (2, 6, 8, 3)
    np.testing.assert_array_equal(whole[:, 1::2, ::2], x[..., 6:9])
    cut = numpy(interleave(ops.convert_to_tensor(x), (5, 7)))
    np.testing.assert_array_equal(cut, whole[:, :5, :7])


def test_wild_offsets_and_kernels_stay_finite_in_half_precision():
    layer = FreqFusion(dtype="mixed_float16")
    shapes = [(1, 8, 8, 32), (1, 4, 4, 32)]
    layer.build(shapes)
    fill(layer)
    inputs = [ops.cast(50 * normal(i, s), "float16") for i, s in enumerate(shapes)]
    for output in run(layer, inputs):
        assert np.isfinite(output).all()


def test_products_are_those_of_the_reassembly():
    pixels, high, low, guide = 2 * 16 * 24, 16, 32, 12
    expected = pixels * (9 * (guide + high) + 25 * (25 + 9 + low))
    shapes = [(2, 16, 24, high), (2, 8, 12, low)]
    assert FreqFusion().attention_flops(shapes) == expected


def test_kernels_start_uniform_and_the_rest_with_xaviers_scale():
    layer = FreqFusion()
    layer.build([(None, None, None, 64), (None, None, None, 128)])
    for convolution in (layer.low_pass, layer.high_pass):
        assert numpy(convolution.kernel).std() == pytest.approx(1e-3, rel=0.1)
    kernel = numpy(layer.resampler.scale_low.kernel)
    assert kernel.std() == pytest.approx((2 / (9 * (48 + 32))) ** 0.5, rel=0.1)


@pytest.mark.parametrize("low", [(1, 5, 5, 32), (1, 4, 4, 32), (1, 10, 8, 32)])
def test_low_resolution_of_another_size_is_refused(low):
    high = (1, 10, 7, 32)
    with refused("(5, 4) for (10, 7)", low[1:3]):
        FreqFusion().build([high, low])
    layer = FreqFusion()
    layer.build([(None, None, None, 32)] * 2)
    with pytest.raises(ValueError, match=r"half the size.*\(5, 4\) for \(10, 7\)"):
        layer.call([ops.ones(high), ops.ones(low)])


def test_widths_that_do_not_fit_are_refused():
    def shapes(*widths):
        return [(1, 4, 4, widths[0]), *((1, 2, 2, width) for width in widths[1:])]

    with refused("multiple of 4", "32 and 33"):
        FreqFusion().build(shapes(32, 33))
    with refused("from 8", "6"):
        FreqFusion().build(shapes(12, 12))
    with refused("channels // 8", "19"):
        FreqFusion().build(shapes(36, 40))
    with refused("multiple of 4", "30"):
        SimilarityGuidedResampler().build([*shapes(16, 16), (1, 4, 4, 30)])


def test_checkpoint_with_a_window_is_refused():
    state = {"freqfusions.0.hamming_lowpass": np.ones((1,))}
    assert DECODER.used(state) == {}
    with refused("freqfusions.0.hamming_lowpass", "window"):
        DECODER.used({"freqfusions.0.hamming_lowpass": np.full((5, 5), 0.08)})
