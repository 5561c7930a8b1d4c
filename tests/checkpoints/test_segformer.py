"""Encoders under the names of three publishers, and heads that do not fit."""

from types import SimpleNamespace

import numpy as np
import pytest

import keras_lrseg
from keras_lrseg.backbones import MixTransformerBackbone
from keras_lrseg.checkpoints import load_backbone_weights
from keras_lrseg.checkpoints.files import read_state_dict
from tests.helpers import images, no_random_start, no_weights, normal, refused, run
from tests.reference import load_state, torch_variables

TINY = {"channels": (8, 16, 20, 32), "depths": (1, 2, 1, 1)}

BLOCK = [
    "norm1",
    "attn.q",
    "attn.kv",
    "attn.proj",
    "attn.sr",
    "attn.norm",
    "norm2",
    "mlp.fc1",
    "mlp.dwconv.dwconv",
    "mlp.fc2",
]


def test_names_are_those_of_the_authors_encoder():
    with no_weights():
        model = SimpleNamespace(backbone=MixTransformerBackbone(**TINY))
    expected = set()
    for stage, depth in enumerate(TINY["depths"], 1):
        modules = [f"patch_embed{stage}.proj", f"patch_embed{stage}.norm"]
        for i in range(depth):
            modules += [f"block{stage}.{i}.{part}" for part in BLOCK]
        modules.append(f"norm{stage}")
        if stage == 4:  # no reduction
            modules = [m for m in modules if m[9:] not in ("attn.sr", "attn.norm")]
        expected |= {f"{m}.{leaf}" for m in modules for leaf in ("weight", "bias")}
    assert set(torch_variables(model, load_backbone_weights)) == expected


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A random encoder of transformers, its features and its checkpoint."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    config = transformers.SegformerConfig(
        hidden_sizes=TINY["channels"], depths=TINY["depths"]
    )
    model = transformers.SegformerForImageClassification(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            start = float(weight.ndim == 1 and name.endswith("weight"))
            values = start + 0.2 * normal(name, tuple(weight.shape))
            weight.copy_(torch.from_numpy(values))
        x = torch.from_numpy(images(0, 72, 109).transpose(0, 3, 1, 2))
        outputs = model.segformer(x, output_hidden_states=True)
    folder = tmp_path_factory.mktemp("encoder")
    model.save_pretrained(folder)
    features = [x.numpy().transpose(0, 2, 3, 1) for x in outputs.hidden_states]
    return features, folder / "model.safetensors"


def test_encoder_of_transformers_gives_its_features(encoder):
    features, path = encoder
    with no_random_start():
        backbone = MixTransformerBackbone(**TINY, epsilon=1e-5)
    load_backbone_weights(SimpleNamespace(backbone=backbone), path)
    pyramid = run(backbone, images(0, 72, 109))
    for expected, actual in zip(features, pyramid.values(), strict=True):
        assert abs(actual - expected).max() <= 3e-5 * expected.std()


@pytest.mark.parametrize("part", ["key.weight", "value.bias", "query.bias"])
def test_encoder_that_lacks_a_part_of_the_attention_is_refused(encoder, part):
    state = read_state_dict(encoder[1])
    del state[f"segformer.encoder.block.1.0.attention.self.{part}"]
    with no_weights():
        model = SimpleNamespace(backbone=MixTransformerBackbone(**TINY))
    with refused("Missing in the file: block2.0.attn."):
        load_state(model, state, load_backbone_weights)


@pytest.mark.parametrize("key", ["linear_c.0.proj.weight", "linear_c1.proj.weight"])
def test_head_of_another_kind_is_refused(key):
    with no_weights():
        model = keras_lrseg.SegFormerB0(num_classes=5)
    state = {f"decode_head.{key}": np.zeros((256, 32), "float32")}
    with refused("Hugging Face's", "backbone_weights="):
        load_state(model, state)
