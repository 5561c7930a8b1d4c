import functools
from unittest import mock

import numpy as np
import pytest

import keras_lrseg
from keras_lrseg.analysis import profile
from keras_lrseg.backbones.mix_transformer import VARIANTS
from keras_lrseg.checkpoints import load
from keras_lrseg.export import export_tflite
from keras_lrseg.layers import OffsetLearning
from tests.checks import check_trains_and_saves
from tests.helpers import fill, no_random_start, no_weights, tensorflow_only
from tests.reference import load_state, manifest

# Of the authors' code at 512×512 and 150 classes: millions of parameters, billions of
# multiply-accumulates.
AUTHORS = {
    "b0": (3.754, 8.39),
    "b1": (13.717, 15.88),
    "b2": (24.762, 25.68),
    "b3": (44.638, 42.30),
    "b4": (61.408, 58.91),
    "b5": (82.008, 74.85),
    "b0_ol": (3.923, 8.67),
    "b1_ol": (13.887, 16.16),
    "b2_ol": (24.931, 25.96),
    "b3_ol": (44.807, 42.58),
    "b4_ol": (61.578, 59.19),
    "b5_ol": (82.178, 75.13),
}
TINY = {"channels": (8, 8, 8, 8), "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 2)}
UNUSED = 150 * (256 + 1)  # a 1×1 classifier that their code has beside Offset Learning


def make(variant, *arguments, **settings):
    with no_weights():
        return getattr(keras_lrseg, f"SegFormer{variant}")(*arguments, **settings)


@functools.cache
def published(name):
    variant, _, offset = name.partition("_")
    classifier = "offset" if offset else "pixel"
    return make(variant.upper(), num_classes=150, classifier=classifier)


def shapes_of(arrays):
    """Shapes in any order of the axes, without ones: 1×1 kernels may be matrices."""
    return {
        key: sorted(n for n in array.shape if n > 1)
        for key, array in arrays.items()
        if not key.endswith("num_batches_tracked")
    }


@pytest.mark.parametrize("name", AUTHORS)
def test_names_and_shapes_are_those_of_the_published_checkpoint(name):
    state = {k: np.broadcast_to(0, s) for k, s in manifest(f"segformer_{name}").items()}
    with mock.patch.object(load, "assign_state_dict") as assign:
        load_state(published(name), state)
    variables, prepared, _ = assign.call_args.args
    assert shapes_of(variables) == shapes_of(prepared)


def slow_beyond(*quick):
    slow = (name for name in AUTHORS if name not in quick)
    return [*quick, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)]


@pytest.mark.parametrize("name", slow_beyond("b0", "b0_ol", "b1"))
def test_costs_are_those_of_the_authors_code(name):
    params, flops = AUTHORS[name]
    with no_weights():
        result = profile(published(name), (512, 512))
    unused = UNUSED if name.endswith("_ol") else 0
    assert result.params + unused == pytest.approx(1e6 * params, rel=1e-3)
    assert result.published_flops / 1e9 == pytest.approx(flops, rel=1e-2)
    # What the split fusion saves: three levels of four at 1/4, 1/16, 1/64 the pixels.
    decoder = result.parts["decoder"]
    saved = 256**2 * (3 * 128**2 - 64**2 - 32**2 - 16**2)
    assert decoder.published_flops - decoder.flops == saved


@pytest.mark.parametrize(
    ("classifier", "rate", "stride"),
    [("pixel", 0.1, 4), ("offset", 0.0, 8), (OffsetLearning(5), 0.0, 8)],
)
def test_classifier_decides_about_dropout_and_pooling(classifier, rate, stride):
    model = make(
        "B0", 5, classifier=classifier, upsample=False, input_shape=(64, 96, 3)
    )
    assert model.dropout_rate == rate
    assert model.output_shape == (None, 64 // stride, 96 // stride, 5)


def test_settings_reach_their_parts():
    model = make(
        "B2",
        5,
        input_shape=(64, 96, 3),
        include_preprocessing=False,
        activation="softmax",
        dropout_rate=0.2,
        drop_path_rate=0.25,
        decoder_channels=768,
        name="mine",
        dtype="mixed_bfloat16",
    )
    assert model.name == "mine"
    assert model.output_shape == (None, 64, 96, 5)
    assert model.decoder.channels == 768
    assert model.backbone.get_config()["drop_path_rate"] == 0.25
    assert model.dropout_rate == 0.2
    parts = (model.backbone, model.decoder, model.classifier)
    assert {part.dtype_policy.name for part in parts} == {"mixed_bfloat16"}
    assert model.output.dtype == "float32"


@pytest.mark.slow
def test_segformer_with_offset_learning_trains_and_saves(monkeypatch):
    monkeypatch.setitem(VARIANTS, "B0", TINY)
    with no_random_start():
        model = keras_lrseg.SegFormerB0(5, classifier="offset", decoder_channels=8)
    assert isinstance(model.classifier, OffsetLearning)
    check_trains_and_saves(fill(model), 96, 72)  # more than one key everywhere


def test_notice_of_the_patent_is_in_every_docstring():
    for variant in VARIANTS:
        assert "Patent notice" in getattr(keras_lrseg, f"SegFormer{variant}").__doc__


@tensorflow_only
def test_file_for_phones_agrees_with_the_model(monkeypatch, tmp_path):
    monkeypatch.setitem(VARIANTS, "B0", TINY)
    model = keras_lrseg.SegFormerB0(5, classifier="offset", decoder_channels=8)
    report = export_tflite(fill(model), tmp_path / "model.tflite", (64, 96))
    assert report.agreement == 1.0
