"""OffSeg: the authors' numbers for the whole of OffSeg-T, its settings, its costs."""

import functools

import keras
import pytest

import keras_lrseg
from keras_lrseg import OffSegT, SemanticSegmenter
from keras_lrseg.analysis import profile
from keras_lrseg.backbones import EfficientFormerV2Backbone
from keras_lrseg.decoders import FreqFusionDecoder
from keras_lrseg.export import export_tflite
from keras_lrseg.layers import OffsetLearning
from keras_lrseg.models.classifiers import make_classifier
from tests.checks import check_trains_and_saves
from tests.helpers import no_random_start, no_weights, run, tensorflow_only
from tests.reference import assert_offseg, load_state, offseg_inputs, torch_state
from tests.tiny import tiny_segmenter

# Of the authors' code: millions of parameters with 150 classes, and billions of
# multiply-accumulates, those of convolutions at 512×512 with 150 classes, all of them,
# and all at 1024×2048 with 19.
COSTS = {
    "T": (6.222, 5.29, 9.54, 88.7),
    "B": (12.955, 10.22, 14.94, 152.6),
    "L": (26.414, 17.02, 22.08, 230.3),
}
UNUSED = 150 * (256 + 1)  # weights of a 1×1 convolution that the authors never call


@functools.cache
def published():
    with no_random_start():
        model = OffSegT(num_classes=150, include_preprocessing=False)
    return load_state(model, torch_state("offseg_t"))


def test_t_reproduces_the_authors_outputs():
    model = published()
    images = keras.Input((None, None, 3))
    pyramid = model.backbone(images)
    outputs = {f"stage{i}": pyramid[f"P{i + 1}"] for i in (1, 2, 3, 4)}
    features = model.decoder(pyramid)
    outputs |= {"head.align": features, "logits": model.classifier(features)}
    name = "offseg_t_512x512"
    outputs = run(keras.Model(images, outputs), offseg_inputs(name)["images"])
    for part, output in outputs.items():
        tolerance = 1e-3 if part == "logits" else 3e-5
        assert_offseg(output, f"{name}/{part}", tolerance)


def slow_beyond(quick, *others):
    return [quick, *(pytest.param(x, marks=pytest.mark.slow) for x in others)]


@pytest.mark.parametrize("variant", slow_beyond("T", "B", "L"))
def test_costs_are_those_of_the_authors_code(variant):
    params, convolutions, everything, cityscapes = COSTS[variant]
    make = getattr(keras_lrseg, f"OffSeg{variant}")
    with no_weights():
        small = profile(make(num_classes=150), (512, 512))
        large = profile(make(num_classes=19), (1024, 2048))
    assert (small.params + UNUSED) / 1e6 == pytest.approx(params, rel=1e-3)
    assert small.conv_flops / 1e9 == pytest.approx(convolutions, rel=2e-3)
    assert small.published_flops / 1e9 == pytest.approx(everything, rel=2e-3)
    assert large.published_flops / 1e9 == pytest.approx(cityscapes, rel=2e-3)
    # What Offset Learning saves: 4·N·K·C + N·C² become 3·N·K·C + N·K² + K²·C, besides
    # the two projections of K·C² that both forms have.
    n, k, c = 128**2, 150, 256
    saved = n * k * c + n * c * c - k * c * c - n * k * k - k * k * c
    assert small.published_flops - small.flops == saved


@pytest.mark.slow
@pytest.mark.parametrize("classifier", ["S0", "S1", "S2", "L"])
def test_image_classifiers_cost_what_the_paper_says(classifier):
    """That of EfficientFormerV2, whose two linear maps are one here."""
    params, flops = {
        "S0": (3.6, 0.40),
        "S1": (6.2, 0.65),
        "S2": (12.7, 1.25),
        "L": (26.3, 2.56),
    }[classifier]
    with no_weights():
        model = getattr(keras_lrseg, f"EfficientFormerV2{classifier}Classifier")()
        result = profile(model, (224, 224))
    second = 1000 * (model.backbone.output["P5"].shape[-1] + 1)
    assert (result.params + second) / 1e6 == pytest.approx(params, rel=0.01)
    assert result.flops / 1e9 == pytest.approx(flops, rel=0.02)


@pytest.mark.slow
def test_step_of_training_moves_every_layer_at_any_size():
    backbone = EfficientFormerV2Backbone(
        (8, 8, 8, 8), ((1,),) * 4, attention_blocks=1, resolution=64, layer_scale=0.1
    )
    model = tiny_segmenter(
        backbone=backbone,
        decoder=FreqFusionDecoder((32,) * 4, 32, name="decoder"),
        classifier=make_classifier("offset", 5),
    )
    check_trains_and_saves(model, 97, 70)


def test_settings_reach_their_parts():
    with no_weights():
        model = OffSegT(
            5,
            input_shape=(64, 96, 3),
            upsample=False,
            classifier="pixel",
            drop_path_rate=0.25,
            decoder_channels=64,
            resolution=256,
            dtype="mixed_bfloat16",
        )
    backbone = model.backbone.get_config()
    assert (backbone["resolution"], backbone["drop_path_rate"]) == (256, 0.25)
    assert model.decoder.channels == 64
    assert type(model.classifier).__name__ == "PointwiseConvolution"
    assert model.output_shape == (None, 16, 24, 5)
    parts = (model.backbone, model.decoder, model.classifier)
    assert {part.dtype_policy.name for part in parts} == {"mixed_bfloat16"}
    assert model.output.dtype == "float32"


@pytest.mark.parametrize(("variant", "rate"), [("T", 0), ("B", 0.02), ("L", 0.1)])
def test_segmenter_trains_as_the_authors_do(variant, rate):
    with no_weights():
        model = getattr(keras_lrseg, f"OffSeg{variant}")(num_classes=5)
    assert model.backbone.get_config()["drop_path_rate"] == rate
    assert type(model.classifier).__name__ == "OffsetLearning"
    assert (model.dropout_rate, model.name) == (0, f"offseg_{variant.lower()}")


@pytest.mark.parametrize("variant", COSTS)
def test_documentation_has_the_patent_notice(variant):
    assert "Patent notice" in getattr(keras_lrseg, f"OffSeg{variant}").__doc__


@tensorflow_only
def test_file_for_phones_agrees_at_an_odd_size_and_has_the_patent_notice(tmp_path):
    from tensorflow.lite.tools import flatbuffer_utils

    backbone = EfficientFormerV2Backbone(
        (8, 16, 16, 24), ((2,), (2,), (2,), (2,)), 1, resolution=64
    )
    model = SemanticSegmenter(
        backbone,
        FreqFusionDecoder((32,) * 4, 32, name="decoder"),
        OffsetLearning(5, name="classifier"),
    )
    path = tmp_path / "model.tflite"
    report = export_tflite(model, path, (65, 97))
    assert report.agreement == 1.0
    content = flatbuffer_utils.read_model(path)
    assert b"Patent notice" in content.description
    ranks = {len(t.shape) for t in content.subgraphs[0].tensors if t.shape is not None}
    assert max(ranks) <= 4
