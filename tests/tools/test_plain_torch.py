"""The peers of the speed benchmark compute what the authors' code does."""

import zlib

import keras
import numpy as np
import pytest

from tests.helpers import normal
from tests.reference import assert_golden, offseg_fixtures, offseg_state, torch_state

if keras.config.backend() != "torch":
    pytest.skip("plain PyTorch, the same on every backend", allow_module_level=True)

import torch

from tools.plain_torch.offseg import OffSeg
from tools.plain_torch.offset_learning import OffsetLearning
from tools.plain_torch.segformer import SegFormerHead
from tools.plain_torch.segnext import LightHamHead, MatrixFactorisation, SegNeXt

# What the authors' code keeps and does not use.
UNUSED = ("attention_biases", "_idxs", "_idxs_seg", "conv_seg.weight", "conv_seg.bias")
UNUSED += ("hamming_lowpass", "hamming_highpass", "init_pos")
DIMS = (8, 16, 24, 32)


def load(module, state):
    """Fill a module; every weight has a key, and every other key is unused."""
    state = {key: torch.from_numpy(value) for key, value in state.items()}
    keys = module.load_state_dict(state, strict=False)
    assert not keys.missing_keys
    assert all(key.endswith(UNUSED) for key in keys.unexpected_keys)
    for part in module.modules():
        if isinstance(part, MatrixFactorisation):
            part.bases = authors_bases(part.bases.shape)
    return module.eval()


def authors_bases(shape):
    """Those of the matrix factorisation in the golden numbers, (1, D, R)."""
    seed = zlib.crc32("nmf_bases.{}x{}".format(*shape[1:]).encode())
    bases = np.random.default_rng(seed).random(shape).astype("float32")
    return torch.nn.functional.normalize(torch.from_numpy(bases), dim=1)


def assert_authors(actual, case):
    assert_golden(actual.numpy(), "offseg.npz", case)


def inputs(name):
    rows = offseg_fixtures()[name]["inputs"]
    return [torch.from_numpy(normal(seed, shape)) for _, seed, shape in rows]


@torch.inference_mode()
def test_offset_learning():
    layer = load(OffsetLearning(16, 5), offseg_state("offset_learning"))
    assert_authors(layer(*inputs("offset_learning")), "offset_learning/out")


@pytest.mark.parametrize("name", ["segformer_head", "segformer_head_ol"])
@torch.inference_mode()
def test_segformer_head(name):
    head = SegFormerHead(DIMS, 32, 7, offset=name.endswith("ol"))
    head = load(head, offseg_state(name))
    assert_authors(head(inputs(name)), f"{name}/out")


@torch.inference_mode()
def test_hamburger_head():
    head = load(LightHamHead(DIMS[1:], 64, 7, offset=False), offseg_state("ham_head"))
    assert_authors(head(inputs("ham_head")), "ham_head/out")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("offseg_t", lambda: OffSeg("t", 150)),
        ("segnext_t_ol", lambda: SegNeXt(150, offset=True)),
    ],
)
@torch.inference_mode()
def test_whole_model(name, make):
    model, case = load(make(), torch_state(name)), f"{name}_512x512"
    (image,) = inputs(case)
    features = model.backbone(image)
    for i, feature in enumerate(features, 1):
        assert_authors(feature.contiguous(), f"{case}/stage{i}")
    features = features[1:] if name.startswith("segnext") else features
    assert_authors(model.decode_head(features), f"{case}/logits")


@pytest.mark.parametrize(("variant", "name"), [("b", "offseg_b"), ("l", "offseg_l")])
def test_larger_models_have_the_authors_weights(variant, name):
    with torch.device("meta"):
        model = OffSeg(variant, 150)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    published = torch_state(name)
    assert shapes.items() <= {k: v.shape for k, v in published.items()}.items()
    assert all(key.endswith(UNUSED) for key in published.keys() - shapes.keys())
