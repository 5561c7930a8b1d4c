"""The golden numbers, and the published states they were computed with."""

import contextlib
import functools
import gzip
import json
import pathlib
import zlib
from unittest import mock

import keras
import numpy as np
import pytest
from keras import ops, tree

from keras_lrseg.backbones import LRFormerBackbone
from keras_lrseg.checkpoints import load, lrformer
from keras_lrseg.checkpoints.convert import assign_state_dict
from keras_lrseg.decoders import LRDecoder
from tests.helpers import loss_and_gradients, no_random_start, normal
from tests.tiny import tiny_segmenter

GOLDEN = pathlib.Path(__file__).parent / "golden"


def torch_tensor(key, shape, depthwise_gain=1.0):
    """The tensor that stands for `key` of a published checkpoint."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    leaf = key.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, "int64")
    if leaf == "running_var":
        return rng.uniform(0.5, 1.5, shape).astype("float32")
    values = rng.standard_normal(shape)
    if leaf.startswith("layer_scale"):
        values = 0.1 + 0.05 * values
    elif leaf.startswith("attention_biases"):
        values *= 0.1
    elif leaf.startswith("hamming"):
        values = np.ones(shape)
    elif leaf == "cls_repr":
        values *= 0.3
    elif key.endswith("talking_head2.bias"):
        values *= 0.001
    elif len(shape) > 1:
        depthwise = len(shape) == 4 and shape[1] == 1
        fan_in = np.prod(shape[1:])
        values *= (depthwise_gain if depthwise else 1) / np.sqrt(fan_in)
    else:  # Normalizations start at one; biases and running means at zero.
        values = (leaf == "weight") + 0.1 * values
    return values.astype("float32")


@functools.cache
def manifest(name):
    """{key: shape} of a published checkpoint, in its order."""
    manifests = json.loads(gzip.decompress((GOLDEN / "manifests.json.gz").read_bytes()))
    return {key: tuple(shape) for key, shape in manifests[name]}


def torch_state(name, depthwise_gain=1.0):
    """A whole state_dict of seeded tensors for the manifest `name`."""
    shapes = manifest(name).items()
    return {key: torch_tensor(key, shape, depthwise_gain) for key, shape in shapes}


def state_of(*prefixes, name="lrformer_tiny_test"):
    """The tensors of the keys with one of the prefixes, less "backbone." in front."""
    return {
        key.partition(".")[2]: torch_tensor(key, shape)
        for key, shape in manifest(name).items()
        if key.startswith(prefixes)
    }


@functools.cache
def offseg_fixtures():
    return json.loads(gzip.decompress((GOLDEN / "offseg.json.gz").read_bytes()))


def offseg_inputs(name):
    """The inputs of a fixture of the OffSeg paper by name, (B, H, W, C)."""
    return {
        key: channels_last(normal(seed, shape))
        for key, seed, shape in offseg_fixtures()[name]["inputs"]
    }


def offseg_state(name):
    """Its weights by their keys in the layer, without those its code does not learn."""
    fixture = offseg_fixtures()[name]
    return {
        key.removeprefix(fixture["prefix"]): torch_tensor(key, shape)
        for key, shape in fixture["weights"]
    }


def channels_last(array):
    """(B, C, H, W) to (B, H, W, C); anything else as it is."""
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def assert_offseg(actual, case, tolerance=3e-5):
    """Compare an output (B, H, W, C) of a fixture, for example "carafe_k3s1g1/out"."""
    actual = np.asarray(actual)
    actual = actual.transpose(0, 3, 1, 2) if actual.ndim == 4 else actual
    assert_golden(actual, "offseg.npz", case, tolerance)


def assert_offseg_gradients(layer, name, names, inputs):
    """Compare each weight's gradient norm with the authors', to 1 %."""
    expected = offseg_fixtures()[name]["grads"]
    factors = [channels_last(normal(*row[1:])) for row in expected["R"]]

    def loss(outputs):
        parts = zip(tree.flatten(outputs), factors, strict=True)
        return sum(ops.mean(y * ops.convert_to_tensor(r)) for y, r in parts)

    value, gradients = loss_and_gradients(layer, loss, inputs)
    assert value == pytest.approx(expected["loss"], rel=1e-3, abs=1e-6)
    norms = {
        names.key(weight.path.removeprefix(f"{layer.name}/")): np.linalg.norm(gradient)
        for weight, gradient in zip(layer.trainable_weights, gradients, strict=True)
    }
    assert norms == pytest.approx(expected["param_l2"], rel=0.01)


def load_layer(layer, shape, place, state, names=None):
    """Build a layer as if at `place` in a model ("stage3/block0") and fill it.

    Every key of `state` that `names` uses and every weight is used, or it raises.

    Args:
        names: published names of the layer's weights, from the paths inside it; None
            for LRFormer's at that place.
    """
    with contextlib.ExitStack() as scopes:
        for scope in place.split("/") if place else ():
            scopes.enter_context(keras.name_scope(scope))
        layer.build(shape)
    inside = f"{layer.name}/" if names else "decoder/"
    decoder = place.startswith("decoder")
    names = names or (lrformer.DECODER if decoder else lrformer.BACKBONE)
    weights = {names.key(w.path.removeprefix(inside)): w for w in layer.weights}
    assign_state_dict(weights, names.used(state), layer.name)
    return layer


@functools.cache
def golden(file):
    with np.load(GOLDEN / file) as archive:
        return dict(archive)


def assert_golden(actual, file, case, tolerance=3e-5):
    """Compare an output, in PyTorch's layout, with the authors' code.

    Args:
        tolerance: largest difference, in standard deviations of the output. Float32
            noise is 9e-6 on every backend, in a layer and in a whole model.
    """
    numbers = golden(file)
    shape, (_, std, largest), index, values = (
        numbers[f"{case}/{part}"] for part in ("shape", "stats", "index", "values")
    )
    actual = np.asarray(actual)
    assert actual.shape == tuple(shape)
    assert abs(actual.ravel()[index] - values).max() <= tolerance * std
    # The sample cannot see everything; these two see all values, if less sharply.
    assert abs(actual.std() - std) <= tolerance * std
    assert abs(abs(actual).max() - largest) <= tolerance * largest


def load_state(model, state, read=load.load_weights, **settings):
    """Load a state_dict as from a checkpoint file, but out of memory."""
    with (
        mock.patch.object(load, "resolve", pathlib.Path),
        mock.patch.object(load, "read_state_dict", return_value=dict(state)),
    ):
        read(model, "state.pth", **settings)
    return model


def to_torch_layout(array):
    """Transpose a Keras kernel to PyTorch's layout."""
    if array.ndim == 4:
        depthwise = array.shape[3] == 1
        return array.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
    return array.T


def torch_variables(model, read=load.load_weights):
    """Variables by state_dict key, as the checkpoint reader names them."""
    with mock.patch.object(load, "assign_state_dict") as assign:
        load_state(model, {}, read)
    return assign.call_args.args[0]


def golden_segmenter(dtype=None):
    """The authors' tiny test configuration, with golden weights."""
    with no_random_start():
        backbone = LRFormerBackbone(
            (24, 48, 96, 128), (1, 1, 2, 1), (1, 2, 4, 4), dtype=dtype
        )
        decoder = LRDecoder(64, name="decoder", dtype=dtype)
        model = tiny_segmenter(dtype=dtype, backbone=backbone, decoder=decoder)
    return load_state(model, torch_state("lrformer_tiny_test"))


@functools.cache
def shared_golden_segmenter():
    """The same one for all tests, compiled once: look, don't touch."""
    return golden_segmenter()
