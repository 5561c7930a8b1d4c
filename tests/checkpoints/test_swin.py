"""Swin under the names of three publishers, with the features of transformers."""

import numpy as np
import pytest

from keras_lrseg.backbones import SwinBackbone
from keras_lrseg.checkpoints.convert import Names, assign_state_dict
from keras_lrseg.checkpoints.files import read_state_dict
from keras_lrseg.checkpoints.mask2former import from_hugging_face
from keras_lrseg.checkpoints.swin import BACKBONE
from keras_lrseg.layers.swin import PatchMerging
from tests.helpers import (
    images,
    no_random_start,
    no_weights,
    normal,
    numpy,
    refused,
    run,
)
from tests.reference import load_layer

TINY = {
    "channels": (8, 16, 32, 64),
    "depths": (2, 2, 1, 2),
    "num_heads": (1, 2, 4, 4),
    "window_size": 3,
}
BLOCK = [
    "norm1",
    "attn.w_msa.qkv",
    "attn.w_msa.proj",
    "norm2",
    "ffn.layers.0.0",
    "ffn.layers.1",
]


def variables(backbone):
    return {BACKBONE.key(weight.path): weight for weight in backbone.weights}


def load(state):
    """A tiny backbone with the weights of a state_dict, all of them."""
    with no_random_start():
        backbone = SwinBackbone(**TINY)
    assign_state_dict(variables(backbone), BACKBONE.used(state), "state.pth")
    return backbone


def test_names_are_those_of_mmsegmentation():
    with no_weights():
        keys = set(variables(SwinBackbone(**TINY)))
    modules = ["patch_embed.projection", "patch_embed.norm"]
    modules += [f"norm{i}" for i in range(4)]
    modules += [f"stages.{i}.downsample.norm" for i in range(3)]
    expected = {f"stages.{i}.downsample.reduction.weight" for i in range(3)}
    for i, depth in enumerate(TINY["depths"]):
        for j in range(depth):
            place = f"stages.{i}.blocks.{j}"
            modules += [f"{place}.{part}" for part in BLOCK]
            expected.add(f"{place}.attn.w_msa.relative_position_bias_table")
    expected |= {f"{m}.{leaf}" for m in modules for leaf in ("weight", "bias")}
    assert keys == expected


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A random backbone of transformers and its checkpoint."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    config = transformers.SwinConfig(
        embed_dim=TINY["channels"][0],
        depths=TINY["depths"],
        num_heads=TINY["num_heads"],
        window_size=TINY["window_size"],
        out_features=[f"stage{i}" for i in (1, 2, 3, 4)],
    )
    model = transformers.SwinBackbone(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            start = float(weight.ndim == 1 and name.endswith("weight"))
            values = start + 0.2 * normal(name, tuple(weight.shape))
            weight.copy_(torch.from_numpy(values))
    folder = tmp_path_factory.mktemp("swin")
    model.save_pretrained(folder)
    return model, read_state_dict(folder / "model.safetensors")


# The first needs no zeros; in the second, patches, windows and pairs are filled up.
@pytest.mark.parametrize("size", [(96, 288), (65, 97)])
def test_weights_of_transformers_give_its_features(published, size):
    import torch

    model, state = published
    x = images(0, *size)
    with torch.no_grad():
        maps = model(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).feature_maps
    pyramid = run(load(state), x)
    for expected, actual in zip(maps, pyramid.values(), strict=True):
        expected = expected.numpy().transpose(0, 2, 3, 1)
        assert abs(actual - expected).max() <= 3e-5 * expected.std()


@pytest.mark.parametrize("size", [(6, 8), (5, 9)])
def test_merging_of_mmdetection_is_that_of_unfold(size):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = normal("features", (2, *size, 4))
    place = "stages.0.downsample."
    shapes = {"norm.weight": (16,), "norm.bias": (16,), "reduction.weight": (8, 16)}
    state = {place + key: normal(key, shape) for key, shape in shapes.items()}
    scale, shift, kernel = map(torch.from_numpy, state.values())
    padding = [(0, 0), (0, size[0] % 2), (0, size[1] % 2), (0, 0)]
    y = torch.from_numpy(np.pad(x, padding)).permute(0, 3, 1, 2)
    y = functional.unfold(y, kernel_size=2, stride=2).transpose(1, 2)
    expected = functional.layer_norm(y, (16,), scale, shift) @ kernel.T

    state = BACKBONE.used({"patch_embed.projection.weight": kernel.numpy(), **state})
    state = {key: value for key, value in state.items() if key.startswith(place)}
    layer = PatchMerging(8, name="merging2")
    load_layer(layer, x.shape, "", state, Names((r"^", r"stages/0/downsample/")))
    actual = run(layer, x).reshape(expected.shape)
    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-4, atol=1e-5)


def assert_same(state, other):
    actual, expected = BACKBONE.used(state), BACKBONE.used(other)
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(actual[key], value, key)


def test_names_inside_transformers_5_mean_the_same(published):
    model, state = published
    assert_same({key: x.numpy() for key, x in model.state_dict().items()}, state)


def test_names_inside_mask2former_mean_the_same(published):
    _, state = published
    whole = {f"model.pixel_level_module.encoder.{key}": x for key, x in state.items()}
    renamed = from_hugging_face(whole)
    assert_same({k.removeprefix("backbone."): x for k, x in renamed.items()}, state)


def test_names_of_microsoft_mean_the_same(published):
    _, state = published
    theirs = dict(state)
    for key in [key for key in state if "self.query" in key]:
        names = [key.replace("query", part) for part in ("query", "key", "value")]
        fused = np.concatenate([theirs.pop(name) for name in names])
        theirs[key.replace("self.query", "qkv")] = fused
    names = {
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "embeddings": "patch_embed",
        "encoder.": "",
        "attention.output.dense": "attn.proj",
        "attention.self": "attn",
        "attention": "attn",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "swin.layernorm": "norm",
        **{f"hidden_states_norms.stage{i}": f"norm{i - 1}" for i in (1, 2, 3, 4)},
    }
    for old, new in names.items():
        theirs = {key.replace(old, new): value for key, value in theirs.items()}
    unused = ["layers.0.blocks.1.attn_mask", "head.weight", "head.bias"]
    unused.append("layers.0.blocks.1.attn.relative_position_index")
    assert_same(theirs | dict.fromkeys(unused, np.zeros(3)), state)


@pytest.mark.parametrize("present", [(), (3,)])
def test_norms_that_an_image_classifier_lacks_start_fresh(published, present):
    norms = [f"hidden_states_norms.stage{i + 1}" for i in range(4) if i not in present]
    state = {k: v for k, v in published[1].items() if not k.startswith(tuple(norms))}
    backbone = load(state)
    for i in range(4):
        gamma, beta = map(numpy, backbone.get_layer(f"norm{i + 1}").weights)
        fresh = np.all(gamma == 1) and np.all(beta == 0)
        assert fresh == (i not in present)


@pytest.mark.parametrize(
    "key",
    [
        "encoder.layers.1.blocks.0.attention.self.key.weight",
        "encoder.layers.1.blocks.0.attention.self.relative_position_bias_table",
        "hidden_states_norms.stage2.bias",
    ],
)
def test_incomplete_weights_are_refused(published, key):
    state = dict(published[1])
    del state[key]
    with no_weights():
        backbone = SwinBackbone(**TINY)
    with refused("Missing in the file:"):
        assign_state_dict(variables(backbone), BACKBONE.used(state), "state.pth")
