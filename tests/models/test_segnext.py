"""SegNeXt: settings, costs, and whole models against the authors' numbers."""

import functools

import keras
import pytest

import keras_lrseg
from keras_lrseg.analysis import profile
from keras_lrseg.backbones import MSCANBackbone
from keras_lrseg.decoders import HamburgerDecoder
from keras_lrseg.export import export_tflite
from tests.checks import check_trains_and_saves
from tests.helpers import images, no_random_start, no_weights, run, tensorflow_only
from tests.layers.test_hamburger import give_authors_bases
from tests.reference import assert_offseg, load_state, torch_state
from tests.tiny import filled, tiny_segmenter

# Of the authors' code with 150 classes: millions of parameters, and billions of
# multiply-accumulates at 512×512, by classifier.
AUTHORS = {
    "T": {"pixel": (4.263, 6.40), "offset": (4.433, 7.15)},
    "S": {"pixel": (13.933, 15.65), "offset": (14.103, 16.40)},
    "B": {"pixel": (27.636, 32.69), "offset": (28.238, 34.74)},
}
SLOW = pytest.mark.slow
DECODER_CHANNELS = {"T": 256, "S": 256, "B": 512, "L": 1024}


@functools.cache
def made(variant, classifier="pixel"):
    """A model without weights: look, don't touch."""
    with no_weights():
        return getattr(keras_lrseg, f"SegNeXt{variant}")(150, classifier=classifier)


@pytest.mark.parametrize("classifier", ["pixel", "offset"])
@pytest.mark.parametrize("variant", ["T", "S", pytest.param("B", marks=SLOW)])
def test_costs_are_those_of_the_authors_code(variant, classifier):
    params, flops = AUTHORS[variant][classifier]
    model = made(variant, classifier)
    with no_weights():
        result = profile(model, (512, 512))
    # Theirs counts a 1×1 convolution that Offset Learning leaves unused.
    unused = 150 * (DECODER_CHANNELS[variant] + 1) if classifier == "offset" else 0
    assert result.params + unused == pytest.approx(params * 1e6, rel=1e-3)
    assert result.published_flops / 1e9 == pytest.approx(flops, rel=1e-2)
    assert result.flops < 0.97 * result.published_flops


@pytest.mark.parametrize("variant", DECODER_CHANNELS)
def test_variant_has_the_authors_settings(variant):
    model = made(variant)
    assert model.name == f"segnext_{variant.lower()}"
    assert model.decoder.channels == DECODER_CHANNELS[variant]
    rate = model.backbone.get_config()["drop_path_rate"]
    assert rate == (0.3 if variant == "L" else 0.1)


def test_dropout_is_the_authors_unless_told():
    assert made("T").dropout_rate == 0.1
    assert made("T", "offset").dropout_rate == 0
    with no_weights():
        model = keras_lrseg.SegNeXtT(5, classifier="offset", dropout_rate=0.3)
    assert model.dropout_rate == 0.3


def test_settings_reach_their_parts():
    with no_weights():
        model = keras_lrseg.SegNeXtT(
            5,
            input_shape=(64, 96, 3),
            upsample=False,
            activation="softmax",
            drop_path_rate=0.25,
            decoder_channels=64,
            seed=5,
            name="mine",
            dtype="mixed_bfloat16",
        )
    assert model.name == "mine"
    assert model.output_shape == (None, 8, 12, 5)
    assert model.decoder.channels == 64
    assert model.decoder.hamburger.factorization.seed == 5
    assert model.backbone.get_config()["drop_path_rate"] == 0.25
    parts = (model.backbone, model.decoder, model.classifier)
    assert {part.dtype_policy.name for part in parts} == {"mixed_bfloat16"}
    assert model.output.dtype == "float32"


def test_normalizations_have_the_authors_settings():
    """Too small a difference for the golden numbers: Keras's defaults are others."""
    layers = made("S")._flatten_layers()
    epsilons = {
        kind: {norm.epsilon for norm in layers if isinstance(norm, kind)}
        for kind in (
            keras.layers.BatchNormalization,
            keras.layers.LayerNormalization,
            keras.layers.GroupNormalization,
        )
    }
    assert set().union(*epsilons.values()) == {1e-5}
    assert all(epsilons.values())


def tiny(classifier="pixel", **settings):
    backbone = MSCANBackbone((8, 8, 8, 8), (1, 1, 1, 1), drop_path_rate=0.1)
    decoder = HamburgerDecoder(32, rank=4, name="decoder")
    classifier = keras_lrseg.models.classifiers.make_classifier(classifier, 5)
    return tiny_segmenter(
        backbone=backbone, decoder=decoder, classifier=classifier, **settings
    )


@SLOW
def test_trains_and_saves():
    check_trains_and_saves(tiny(), 64, 96)


@tensorflow_only
def test_exports_to_builtin_operators_and_gives_the_same(tmp_path):
    model = filled(tiny, classifier="offset", include_preprocessing=True)
    report = export_tflite(model, tmp_path / "model.tflite", (65, 97))
    assert report.agreement == 1.0


def assert_reference(case, make, manifest, **settings):
    with no_random_start():
        model = make(150, include_preprocessing=False, **settings)
    load_state(model, torch_state(manifest))
    give_authors_bases(model.decoder.hamburger.factorization)
    inputs = keras.Input((None, None, 3))
    pyramid = model.backbone(inputs)
    outputs = {f"stage{i}": pyramid[f"P{i + 1}"] for i in (1, 2, 3, 4)}
    outputs["head.align"] = model.decoder(pyramid)
    outputs["logits"] = model.classifier(outputs["head.align"])
    seed = {"segnext_t": 1009, "segnext_t_ol": 1010, "segnext_s": 1011}[manifest]
    for name, y in run(keras.Model(inputs, outputs), images(seed, 512, 512)).items():
        assert_offseg(y, f"{case}/{name}")


def test_t_reproduces_the_authors_outputs():
    assert_reference("segnext_t_512x512", keras_lrseg.SegNeXtT, "segnext_t")


@SLOW
def test_t_with_offset_learning_reproduces_the_authors_outputs():
    case, make = "segnext_t_ol_512x512", keras_lrseg.SegNeXtT
    assert_reference(case, make, "segnext_t_ol", classifier="offset")


@SLOW
def test_s_reproduces_the_authors_outputs():
    assert_reference("segnext_s_512x512", keras_lrseg.SegNeXtS, "segnext_s")
