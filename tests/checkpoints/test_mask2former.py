"""Whole mask models from two publishers' checkpoints, with transformers' numbers."""

from unittest import mock

import keras
import numpy as np
import pytest

import keras_lrseg
from keras_lrseg import Mask2FormerSwinT, MaskClassificationSegmenter
from keras_lrseg.analysis import count_params
from keras_lrseg.backbones.swin import SwinBackbone
from keras_lrseg.checkpoints import (
    load,
    load_backbone_weights,
    load_weights,
    published_settings,
)
from keras_lrseg.checkpoints.convert import to_keras_layout
from keras_lrseg.decoders import DeformablePixelDecoder, MaskedAttentionDecoder
from keras_lrseg.models.mask_segmenter import ClassesOfMasks
from tests.helpers import assert_same_weights, fill, images, no_weights, refused, run
from tests.reference import load_state, manifest, torch_state, torch_tensor
from tests.tiny import filled, tiny_segmenter

SIZES = [(64, 96), (77, 109)]
CLASSES, QUERIES, DEPTH = 7, 10, 4
EMBED = 12  # of the tiny Swin; each stage has twice the channels of the one before
SWIN = (1, 1, 2, 1), (1, 2, 2, 2), 4  # depths, heads, window
HEAD, OFFSET = "decode_head.", "decode_head.offset_learning."


def published_state(offset=True):
    """Zeros in the shapes of the published Mask2Former with Swin-T."""
    return {
        key: np.zeros(shape, "float32")
        for key, shape in manifest("mask2former_swin_t_ol").items()
        if offset or not key.startswith(OFFSET)
    }


def assigned(model, state):
    """The variables that a checkpoint fills, and what with, by key."""
    with mock.patch.object(load, "assign_state_dict") as assign:
        load_state(model, state)
    variables, state, _ = assign.call_args.args
    return variables, state


@pytest.mark.parametrize(
    ("classifier", "head"),
    [("pixel", HEAD), ("offset", HEAD), ("pixel", "panoptic_head.")],
)
def test_every_key_of_the_published_checkpoint_is_used(classifier, head):
    offset = classifier == "offset"
    with no_weights():
        model = Mask2FormerSwinT(150, classifier=classifier)
    # As published: 47.44 M, with Offset Learning 47.57 M.
    assert count_params(model) == 47_570_705 - (0 if offset else 131_072)
    published = published_state(offset)
    published = {key.replace(HEAD, head): value for key, value in published.items()}
    variables, state = assigned(model, published)
    assert variables.keys() == state.keys()
    for key, variable in variables.items():
        shape = tuple(variable.shape)
        assert to_keras_layout(key, state[key], shape).shape == shape, key


def test_model_without_offset_learning_refuses_its_weights():
    with no_weights():
        model = Mask2FormerSwinT(150)
    with refused(f"Not used by the model: {OFFSET}cls_offset_proj.weight"):
        load_state(model, published_state())


def test_plus_model_is_lrformers_backbone_with_the_published_settings():
    with no_weights():
        model = keras_lrseg.LRFormerTPlus(150)
    head = {k: v for k, v in published_state(False).items() if k.startswith(HEAD)}
    backbone = dict.fromkeys(manifest("lrformer_t"), np.zeros(1))
    backbone = {k: v for k, v in backbone.items() if k.startswith("backbone.")}
    variables, state = assigned(model, backbone | head)
    counted = {key for key in state if not key.endswith("num_batches_tracked")}
    assert variables.keys() == counted


# --- Hugging Face ---------------------------------------------------------------------


def transformers_model():
    """A random Mask2Former of transformers with a tiny Swin."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    depths, heads, window = SWIN
    backbone = transformers.SwinConfig(
        embed_dim=EMBED,
        depths=depths,
        num_heads=heads,
        window_size=window,
        out_features=[f"stage{i}" for i in (1, 2, 3, 4)],
    )
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=48,
        dim_feedforward=64,
        encoder_layers=2,
        decoder_layers=DEPTH + 1,
        num_attention_heads=4,
        num_queries=QUERIES,
        num_labels=CLASSES,
    )
    model = transformers.Mask2FormerForUniversalSegmentation(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.from_numpy(torch_tensor(name, tuple(weight.shape))))
    return model


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Its file, and for each size of image its predictions, channels last."""
    theirs = transformers_model()
    import torch

    folder = tmp_path_factory.mktemp("mask2former")
    theirs.save_pretrained(folder)
    cases = []
    for size in SIZES:
        x = torch.from_numpy(images(0, *size).transpose(0, 3, 1, 2))
        with torch.no_grad():
            outputs = theirs(x, output_auxiliary_logits=True)
        cases.append(
            [
                [
                    prediction["class_queries_logits"].numpy(),
                    prediction["masks_queries_logits"].permute(0, 2, 3, 1).numpy(),
                ]
                for prediction in (*outputs.auxiliary_logits, outputs)
            ]
        )
    return folder / "model.safetensors", cases


def tiny(num_classes=CLASSES):
    return MaskClassificationSegmenter(
        SwinBackbone([EMBED * 2**i for i in range(4)], *SWIN),
        DeformablePixelDecoder(
            32, 2, num_heads=4, hidden_channels=48, name="pixel_decoder"
        ),
        MaskedAttentionDecoder(num_classes, QUERIES, DEPTH, 4, 64, name="mask_decoder"),
        include_preprocessing=False,
    )


@pytest.fixture(scope="module")
def model(published):
    model = filled(tiny)
    load_weights(model, published[0])
    return model


@pytest.mark.parametrize("case", [0, 1])
def test_all_predictions_are_those_of_transformers(published, model, case):
    every = keras.Model(model.input, [model.output, model.predictions])
    x, expected = images(0, *SIZES[case]), published[1][case]
    logits, predictions = run(every, x)
    assert len(predictions) == len(expected) == DEPTH + 1
    for ours, theirs in zip(predictions, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert abs(a - b).max() <= 1e-3 * b.std()
    wanted = run(ClassesOfMasks(), [*expected[-1], x])
    assert abs(logits - wanted).max() <= 1e-3 * wanted.std()


def test_settings_are_those_of_the_file(published):
    settings = published_settings(published[0])
    own = {"num_classes": CLASSES, "num_queries": QUERIES, "classifier": "pixel"}
    assert settings == own


def test_backbone_alone_is_taken(published, model):
    other = filled(tiny)
    before = [np.array(w) for w in other.mask_decoder.get_weights()]
    load_backbone_weights(other, published[0])
    assert_same_weights(other.backbone, model.backbone)
    after = other.mask_decoder.get_weights()
    assert all(map(np.array_equal, after, before))


def test_reset_head_keeps_the_classification_of_queries_alone(published, model):
    other = filled(tiny, num_classes=3)
    with refused("7 classes", "num_classes=7", "reset_head=True", model=other):
        load_weights(other, published[0])
    head = [np.array(w) for w in other.classifier.get_weights()]
    load_weights(other, published[0], reset_head=True)
    assert all(map(np.array_equal, other.classifier.get_weights(), head))
    for ours, theirs in zip(other.weights, model.weights, strict=True):
        if "/head/classifier/" not in ours.path:
            np.testing.assert_array_equal(*map(np.array, (ours, theirs)), ours.path)


@pytest.mark.parametrize(
    "key",
    [
        "model.transformer_module.decoder.layers.1.self_attn.k_proj.weight",
        "model.pixel_level_module.decoder.level_embed",
        "class_predictor.bias",
    ],
)
def test_checkpoint_that_lacks_a_part_is_refused(published, model, key):
    state = dict(load.read_state_dict(published[0]))
    del state[key]
    with refused("Missing in the file", model=model):
        load_state(model, state)


# --- Another kind of model ------------------------------------------------------------


def test_checkpoint_of_pixels_and_one_of_masks_are_not_mixed_up(tmp_path):
    pixels, masks = filled(tiny_segmenter), filled(tiny)
    words = "classifies pixels", "classifies masks", "backbone_weights="
    with refused(*words, model=masks):
        load_state(masks, torch_state("lrformer_tiny_test"))
    with refused(*words, model=pixels):
        load_state(pixels, published_state())
    for model, other in ((pixels, masks), (masks, pixels)):
        path = tmp_path / "model.keras"
        model.save(path)
        with refused(path, "does not fit this model", *words, model=other):
            load_weights(other, path, reset_head=True)


def test_keras_file_of_other_classes_needs_a_new_head(tmp_path):
    source, target = filled(tiny, num_classes=3), fill(filled(tiny), seed=1)
    path = tmp_path / "model.keras"
    source.save(path)
    with refused(path, "reset_head=True", model=target):
        load_weights(target, path)
    head = [np.array(w) for w in target.classifier.get_weights()]
    load_weights(target, path, reset_head=True)
    assert_same_weights(target.backbone, source.backbone)
    assert all(map(np.array_equal, target.classifier.get_weights(), head))
