import json

import keras
import numpy as np
import pytest

import keras_lrseg
from keras_lrseg.analysis import count_params, profile
from keras_lrseg.backbones.lrformer import VARIANTS
from keras_lrseg.decoders import LRDecoder
from tests.helpers import fill, images, no_weights, run
from tests.tiny import tiny_backbone, tiny_segmenter

# Of the authors' code, as `reference-lrformer.md` has them: millions of parameters, and
# billions of multiply-accumulates by size.
AUTHORS = {
    "T": (13.265, {(512, 512): 16.55, (1024, 2048): 119.1}),
    "S": (32.224, {(512, 512): 39.72, (640, 640): 59.0}),
    "B": (67.505, {(512, 512): 74.36, (1024, 1024): 267.5}),
    "L": (110.980, {(640, 640): 181.1}),
    "XL": (201.556, {(512, 512): 221.1}),
}
BACKBONES = {"T": 11.270, "S": 27.861, "B": 59.993, "L": 99.306, "XL": 184.721}
# Table 6 of the paper: ImageNet classifiers at 224×224.
CLASSIFIERS = {
    "T": (13.04, 1.74),
    "S": (29.80, 4.62),
    "B": (61.93, 9.21),
    "L": (101.41, 15.56),
    "XL": (186.99, 31.42),
}


COUNTS = ("params", "flops", "conv_flops", "attention_flops", "published_flops")


def slow_beyond(*quick):
    slow = (variant for variant in AUTHORS if variant not in quick)
    return [*quick, *(pytest.param(v, marks=pytest.mark.slow) for v in slow)]


@pytest.mark.parametrize("variant", slow_beyond("T", "S"))
def test_costs_are_those_of_the_authors_code(variant):
    params, flops = AUTHORS[variant]
    with no_weights():
        model = getattr(keras_lrseg, f"LRFormer{variant}")(num_classes=150)
        results = [profile(model, size) for size in flops]
    for result, expected in zip(results, flops.values(), strict=True):
        assert result.params / 1e6 == pytest.approx(params, rel=1e-3)
        assert result.flops / 1e9 == pytest.approx(expected, rel=1e-2)
    backbone = result.parts["backbone"]
    assert backbone.params / 1e6 == pytest.approx(BACKBONES[variant], rel=1e-3)
    parts = result.parts.values()
    for count in COUNTS:
        assert sum(getattr(p, count) for p in parts) == getattr(result, count)


@pytest.mark.slow
def test_attention_costs_what_table_12_says():
    """The backbone's products, the same at any size, and 4 for each enlarged value."""
    settings, paper = VARIANTS["S"], {512: 0.76, 1024: 0.87, 1536: 1.05}
    with no_weights():
        model = keras_lrseg.LRFormerS(num_classes=150)
        products = {
            profile(model, (n, n)).parts["backbone"].attention_flops for n in paper
        }
    (products,) = products
    depths, channels = settings["depths"], settings["channels"]
    for size, expected in paper.items():
        maps = zip(depths, channels, (4, 8, 16, 32), strict=True)
        values = sum(d * c * (size // s) ** 2 for d, c, s in maps if size // s > 16)
        assert (products + 4 * values) / 1e9 == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("variant", slow_beyond("T"))
def test_classifiers_cost_what_the_paper_says(variant):
    params, flops = CLASSIFIERS[variant]
    with no_weights():
        model = getattr(keras_lrseg, f"LRFormer{variant}Classifier")()
        result = profile(model, (224, 224))
    assert result.params / 1e6 == pytest.approx(params, rel=1e-3)
    assert result.flops / 1e9 == pytest.approx(flops, rel=1e-2)


@pytest.fixture(scope="module")
def plain():
    """Every kind of Keras layer that is counted, and some that are not."""
    images = keras.Input((None, None, 3))
    x = keras.layers.Normalization(mean=[1, 2, 3], variance=[4, 5, 6])(images)
    x = keras.layers.Conv2D(8, (3, 5), 2, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x)
    x = keras.layers.Conv2D(6, 1, groups=2)(x)
    x = keras.layers.LayerNormalization()(x)
    return fill(keras.Model(images, keras.layers.Dense(5)(x)))


@pytest.fixture(scope="module")
def tiny():
    with no_weights():
        backbone = tiny_backbone(channels=(8, 16, 24, 32), depths=(1, 1, 2, 1))
        return tiny_segmenter(backbone=backbone, decoder=LRDecoder(16, name="decoder"))


# At 40×56: 20×28 positions after the stride.
CONV = 20 * 28 * (8 * 3 * 5 * 3 + 16 * 3 * 3 + 6 * 8)
DENSE = 20 * 28 * 5 * 6
PARAMS = 8 * 3 * 5 * 3 + 2 * 8 + (16 * 9 + 16) + (6 * 8 + 6) + 2 * 6 + (5 * 6 + 5)


def test_plain_keras_layers_are_counted_as_by_hand(plain):
    result = profile(plain, (40, 56))
    assert result.params == count_params(plain) == PARAMS
    assert (result.flops, result.conv_flops) == (CONV + DENSE, CONV)
    assert result.attention_flops == 0
    assert result.parts == {}


def test_layer_that_cannot_be_counted_is_named():
    images = keras.Input((None, None, 3))
    model = keras.Model(images, keras.layers.Conv2DTranspose(4, 3)(images))
    with pytest.warns(UserWarning, match="Not counted: Conv2DTranspose"):
        assert profile(model, (64, 64)).flops == 0


def test_half_precision_costs_the_same():
    with no_weights():
        flops = [
            profile(tiny_segmenter(dtype=dtype), (64, 64)).flops
            for dtype in ("float32", "mixed_bfloat16")
        ]
    assert flops[0] == flops[1]


def test_layer_used_twice_has_its_weights_once_and_its_products_twice():
    images = keras.Input((None, None, 3))
    layer = keras.layers.Dense(3)
    result = profile(keras.Model(images, layer(layer(images))), (10, 20))
    assert (result.params, result.flops) == (12, 2 * 10 * 20 * 9)


def test_frozen_weights_count_as_others_do(plain):
    plain.trainable = False
    assert count_params(plain) == PARAMS
    plain.trainable = True


def test_model_computes_the_same_after_it_was_profiled(plain):
    x = images(0, 40, 56)
    before = run(plain, x)
    first = profile(plain, (40, 56))
    np.testing.assert_array_equal(run(plain, x), before)
    assert profile(plain, (40, 56)) == first


def test_every_layer_has_its_own_call_back(tiny):
    layers = tiny._flatten_layers()
    calls = {id(layer): layer.call for layer in layers}
    profile(tiny, (64, 96))
    for layer in layers:
        assert "call" not in vars(layer)
        assert layer.call == calls[id(layer)]


def test_every_layer_has_its_own_call_back_after_an_error_too(tiny):
    with pytest.raises(ValueError, match="at least 32×32"):
        profile(tiny, (64, 16))
    assert not any("call" in vars(layer) for layer in tiny._flatten_layers())


def test_size_fixed_at_construction_or_given_later_costs_the_same(plain):
    inner = plain
    images = keras.Input((40, 56, 3))
    fixed = keras.Model(images, inner(images))
    assert profile(fixed, (40, 56)).flops == CONV + DENSE
    assert profile(inner, (80, 112)).flops == 4 * (CONV + DENSE)


def test_attention_counts_its_two_products(tiny):
    """Queries (rows · columns) × keys × channels, twice, in each block."""
    result = profile(tiny, (64, 64))
    keys = 11**2 + 8**2 + 6**2 + 4**2
    backbone = 2 * 16**2 * keys * (8 + 16 + 2 * 24 + 32)
    keys = 22**2 + 16**2 + 12**2 + 8**2
    decoder = 2 * 32**2 * keys * 2 * 16
    assert result.parts["backbone"].attention_flops == backbone
    assert result.parts["decoder"].attention_flops == decoder
    assert result.attention_flops == backbone + decoder


def test_json_has_plain_integers_and_the_table_every_part(tiny):
    result = profile(tiny, (64, 64))
    content = json.loads(result.to_json())
    for part in (content, *content["parts"].values()):
        assert [type(part[count]) for count in COUNTS] == [int] * 5
        assert part["flops"] > part["attention_flops"] >= 0
    assert content["params"] == result.params
    names = [line.split()[0] for line in str(result).splitlines()[1:]]
    assert names == [*content["parts"], "total"]
    assert names == ["backbone", "decoder", "classifier", "total"]
    assert f"{result.flops / 1e9:.2f} G" in str(result).splitlines()[-1]
