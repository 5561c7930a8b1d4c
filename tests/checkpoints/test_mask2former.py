"""Mask2Former's head under two publishers' names, and transformers' numbers."""

from types import SimpleNamespace
from unittest import mock

import keras
import numpy as np
import pytest

from keras_lrseg import MaskClassificationSegmenter
from keras_lrseg.analysis.profile import count_params
from keras_lrseg.backbones.swin import VARIANTS, SwinBackbone
from keras_lrseg.checkpoints import swin
from keras_lrseg.checkpoints.convert import assign_state_dict
from keras_lrseg.checkpoints.mask2former import (
    MASK_DECODER,
    PIXEL_DECODER,
    from_hugging_face,
)
from keras_lrseg.decoders import DeformablePixelDecoder, MaskedAttentionDecoder
from keras_lrseg.models.mask_segmenter import ClassesOfMasks
from tests.helpers import (
    images,
    manifest,
    no_random_start,
    no_weights,
    refused,
    run,
    torch_tensor,
)

SIZES = [(64, 96), (77, 109)]
CLASSES, QUERIES, DEPTH = 7, 10, 4
EMBED = 12  # of the tiny Swin; each stage has twice the channels of the one before
SWIN = (1, 1, 2, 1), (1, 2, 2, 2), 4  # depths, heads, window


def variables_of(part, names):
    return {
        names.key(v.path.removeprefix(f"{part.name}/")): v
        for v in part.variables
        if "seed_generator" not in v.path
    }


def head_variables(model):
    """The variables of both decoders by their keys behind "decode_head."."""
    return {
        **variables_of(model.pixel_decoder, PIXEL_DECODER),
        **variables_of(model.mask_decoder, MASK_DECODER),
    }


def load(variables, state):
    """Fill a head's variables with a state_dict's "decode_head." part, or raise."""
    prefix = "decode_head."
    state = {
        k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)
    }
    state = MASK_DECODER.used(PIXEL_DECODER.used(state))
    assign_state_dict(variables, state, "state")


@pytest.mark.parametrize("offset", [True, False])
def test_every_key_of_the_published_head_is_used(offset):
    state = {
        key: np.zeros(shape, "float32")
        for key, shape in manifest("mask2former_swin_t_ol").items()
    }
    with no_weights():
        model = MaskClassificationSegmenter(
            SwinBackbone(**VARIANTS["T"]),
            DeformablePixelDecoder(),
            MaskedAttentionDecoder(150, offset=offset),
        )
    # As published: 47.44 M, with Offset Learning 47.57 M.
    assert count_params(model) == 47_570_705 - (0 if offset else 131_072)
    # The variables have no values.
    variables = {
        key: SimpleNamespace(shape=variable.shape, assign=mock.Mock())
        for key, variable in head_variables(model).items()
    }
    if offset:
        load(variables, state)
        assert all(variable.assign.called for variable in variables.values())
    else:
        with refused("Not used by the model: offset_learning.cls_offset_proj.weight"):
            load(variables, state)


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
def published():
    """Its weights, and for each size of image its predictions, channels last."""
    theirs = transformers_model()
    import torch

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
    return {k: v.numpy() for k, v in theirs.state_dict().items()}, cases


@pytest.fixture(scope="module")
def model(published):
    with no_random_start():
        model = MaskClassificationSegmenter(
            SwinBackbone([EMBED * 2**i for i in range(4)], *SWIN),
            DeformablePixelDecoder(32, 2, num_heads=4, hidden_channels=48),
            MaskedAttentionDecoder(CLASSES, QUERIES, DEPTH, 4, 64),
            include_preprocessing=False,
        )
    state = from_hugging_face(published[0])
    load(head_variables(model), state)
    prefix = "backbone."
    assign_state_dict(
        variables_of(model.backbone, swin.BACKBONE),
        swin.BACKBONE.used(
            {
                k.removeprefix(prefix): v
                for k, v in state.items()
                if k.startswith(prefix)
            }
        ),
        "backbone",
    )
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


def test_backbone_of_hugging_face_keeps_its_names(published):
    keys = from_hugging_face(published[0])
    assert all(key.startswith(("backbone.", "decode_head.")) for key in keys)
    first = next(iter(keys))
    assert first.startswith("backbone.")
    assert first.endswith("embeddings.patch_embeddings.projection.weight")


@pytest.mark.parametrize(
    "key",
    [
        "model.transformer_module.decoder.layers.1.self_attn.k_proj.weight",
        "model.pixel_level_module.decoder.level_embed",
        "class_predictor.bias",
    ],
)
def test_checkpoint_that_lacks_a_part_is_refused(published, model, key):
    state = {k: v for k, v in published[0].items() if k != key}
    with refused("Missing in the file", model=model):
        load(head_variables(model), from_hugging_face(state))
