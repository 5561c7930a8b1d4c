"""What the tests share: seeded weights, golden numbers, one check for every layer."""

import contextlib
import functools
import gzip
import inspect
import json
import pathlib
import tempfile
import zlib
from unittest import mock

import keras
import numpy as np
import pytest
from keras import ops, tree
from keras.src.backend.common import global_state

from keras_lrseg import SemanticSegmenter
from keras_lrseg.backbones import LRFormerBackbone
from keras_lrseg.checkpoints import load, lrformer
from keras_lrseg.checkpoints.convert import assign_state_dict
from keras_lrseg.decoders import (
    DeformablePixelDecoder,
    LRDecoder,
    MaskedAttentionDecoder,
)
from keras_lrseg.models import variants
from keras_lrseg.models.classifiers import make_classifier
from keras_lrseg.training import SegmentationCrossEntropy

GOLDEN = pathlib.Path(__file__).parent / "golden"

tensorflow_only = pytest.mark.skipif(
    keras.config.backend() != "tensorflow",
    reason="only TensorFlow's graphs have sizes unknown until they run",
)

# --- Seeded numbers, the rules that the golden files were computed with ---------------


def normal(seed, shape):
    """Standard normal float32; `seed` is an integer, or a name whose CRC-32 it is."""
    if isinstance(seed, str):
        seed = zlib.crc32(seed.encode())
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def images(seed, height, width, batch=1):
    """Images as if normalised, (B, H, W, 3), drawn in PyTorch's layout."""
    return normal(seed, (batch, 3, height, width)).transpose(0, 2, 3, 1)


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


def fill(layer, seed=0):
    """Give a built layer or model seeded weights of ordinary size."""
    for i, variable in enumerate(layer.weights, 1000 * seed):
        values = 0.3 * normal(i, variable.shape)
        if variable.name in ("gamma", "moving_variance"):
            values = 1 + abs(values)
        variable.assign(values)
    return layer


# --- Golden numbers -------------------------------------------------------------------


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


# --- Models ---------------------------------------------------------------------------


# Few distinct shapes: JAX compiles a random start of each.
TINY = {"channels": (8, 8, 8, 8), "depths": (1, 1, 2, 1), "num_heads": (1, 1, 1, 1)}


def tiny_backbone(**settings):
    return LRFormerBackbone(**{**TINY, **settings})


def tiny_segmenter(
    num_classes=7, dtype=None, backbone=None, decoder=None, classifier=None, **settings
):
    settings.setdefault("include_preprocessing", False)
    return SemanticSegmenter(
        backbone or tiny_backbone(dtype=dtype),
        decoder or LRDecoder(8, name="decoder", dtype=dtype),
        classifier or make_classifier("pixel", num_classes, dtype),
        **settings,
    )


@contextlib.contextmanager
def small_mask_decoders():
    """Make Mask2Former's decoders of the named models as small as they can be."""
    settings = {"depth": 1, "num_heads": 2, "hidden_channels": 16}
    pixels = functools.partial(
        DeformablePixelDecoder, channels=32, num_points=2, **settings
    )
    masks = functools.partial(MaskedAttentionDecoder, **settings)
    with (
        mock.patch.object(variants, "DeformablePixelDecoder", pixels),
        mock.patch.object(variants, "MaskedAttentionDecoder", masks),
    ):
        yield


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


def filled(make, **settings):
    """Make a model with seeded weights."""
    with no_random_start():
        model = make(**settings)
    return fill(model)


def no_random_start():
    """Build models whose weights are assigned next, without compiling random ones."""
    is_jax = keras.config.backend() == "jax"
    return no_weights() if is_jax else contextlib.nullcontext()


@contextlib.contextmanager
def no_weights():
    """Build models without allocating weights, to count them."""
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:  # Else the next scope to end would allocate them after all.
        global_state.set_global_attribute("uninitialized_variables", [])


@contextlib.contextmanager
def refused(*words, model=None, error=ValueError):
    """Assert that the body raises one line with `words` and leaves `model` alone."""
    before = [np.array(w) for w in model.get_weights()] if model else []
    with pytest.raises(error) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message
    after = model.get_weights() if model else []
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


# Compiling takes it most of a minute, and what is tested is the same everywhere.
slow_on_jax = pytest.mark.slow if keras.config.backend() == "jax" else lambda test: test


# --- One way to run, on every backend -------------------------------------------------


def run(function, inputs):
    """Call a layer, model or function of one argument; NumPy in, NumPy out."""
    inputs = tensors(inputs)
    if keras.config.backend() == "jax":  # Op by op, JAX compiles for minutes.
        import jax

        is_model = isinstance(function, keras.Model)
        function = function.predict_on_batch if is_model else jax.jit(function)
    return numpy(function(inputs))


def tensors(inputs):
    return tree.map_structure(ops.convert_to_tensor, inputs)


def numpy(outputs):
    return tree.map_structure(ops.convert_to_numpy, outputs)


def loss_and_gradients(layer, loss, inputs, training=False):
    """Return the loss of the layer's output and a gradient for every trainable weight.

    Weights that the layer updates itself, such as moving means, are updated.

    Args:
        loss: function from the output to a scalar tensor.
    """
    inputs = tensors(inputs)
    variables = layer.trainable_variables
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss(layer(inputs, training=training))
        gradients = tape.gradient(value, [v.value for v in variables])
    elif keras.config.backend() == "jax":
        import jax

        # Unlike calling the layer, this does not leave out what its `call` lacks.
        takes_training = "training" in inspect.signature(layer.call).parameters
        settings = {"training": training} if takes_training else {}

        def stateless(trained, others):
            output, others = layer.stateless_call(trained, others, inputs, **settings)
            return loss(output), others

        others = layer.non_trainable_variables
        (value, updated), gradients = jax.jit(
            jax.value_and_grad(stateless, has_aux=True)
        )([v.value for v in variables], [v.value for v in others])
        for variable, new in zip(others, updated, strict=True):
            variable.assign(new)
    else:
        import torch

        value = loss(layer(inputs, training=training))
        gradients = torch.autograd.grad(value, [v.value for v in variables])
    return float(numpy(value)), numpy(list(gradients))


# --- One check for every layer --------------------------------------------------------

HALF_PRECISION = 0.1  # Largest error, in standard deviations of the output.


def check_layer(make_layer, shapes, larger=None):
    """Assert what must hold for every layer.

    Args:
        make_layer: function from `dtype`, a policy's name, to a new layer.
        shapes: of the input with the batch; a list or dict for several inputs.
        larger: other heights and widths, for inputs whose sizes depend on each other.
    """
    layer = make_layer(dtype="float32")
    model = functional(layer, shapes)
    assert_different_starts(make_layer(dtype="float32"), shapes)
    x = inputs_of(shapes)
    output = run(model, x)

    # Any height and width: unknown when the model is built, odd, not square.
    larger = larger or tree.map_shape_structure(
        lambda s: (s[0], s[1] + 3, s[2] + 2, s[3]), shapes
    )
    y = inputs_of(larger)
    for sizes, images, result in ((shapes, x, output), (larger, y, run(model, y))):
        expected = layer.compute_output_shape(sizes)
        expected = expected if isinstance(expected, list) else [expected]
        assert [a.shape for a in tree.flatten(result)] == [*map(tuple, expected)]
        if keras.config.backend() == "tensorflow":
            dynamic = run_dynamic(model, images)
            for a, b in pairs(dynamic, result):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)

    # Its configuration makes the same layer again, and so does a file.
    again = type(layer).from_config(layer.get_config())
    functional(again, shapes).set_weights(model.get_weights())
    assert again.get_config() == layer.get_config()
    for a, b in pairs(run(saved_and_loaded(model), x), output):
        np.testing.assert_array_equal(a, b)

    # Half precision computes in half precision, and about the same values.
    for policy in ("mixed_bfloat16", "mixed_float16"):
        half = functional(make_layer(dtype=policy), shapes)
        dtypes = {tensor.dtype for tensor in tree.flatten(half.output)}
        assert dtypes == {half.layers[-1].compute_dtype} == {policy[6:]}
        assert {weight.dtype for weight in half.weights} <= {"float32"}
        for a, b in pairs(run(half, x), output):
            assert abs(a.astype("float32") - b).max() <= HALF_PRECISION * b.std()

    # Every weight learns.
    if not model.trainable_weights:
        return
    _, gradients = loss_and_gradients(model, random_sum, x)
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert np.isfinite(gradient).all(), weight.path
        assert np.any(gradient), weight.path


def check_trains_and_saves(model, height, width, any_size=True):
    """Assert that a step of `fit` moves every layer, and a saved model is the same.

    Args:
        model: from images to logits of the same size.
        any_size: it runs in a TensorFlow graph that does not know the size.
    """
    x = images(0, height, width, batch=2)
    classes = model.output_shape[-1]
    labels = np.random.default_rng(0).integers(0, classes, (2, height, width))
    before = {weight.path: numpy(weight) for weight in model.trainable_weights}
    model.compile(
        keras.optimizers.Adam(1e-3),
        SegmentationCrossEntropy(),
        metrics=["sparse_categorical_accuracy"],  # KerasHub's own wants one-hot labels
    )
    losses = model.fit(x, labels, batch_size=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    moved = [w for w in model.trainable_weights if np.any(numpy(w) != before[w.path])]
    assert {w.path.split("/")[0] for w in moved} == {p.split("/")[0] for p in before}
    output = run(model, x)
    assert output.shape == (2, height, width, classes)
    assert output.std() > 0
    np.testing.assert_array_equal(run(saved_and_loaded(model), x), output)
    if any_size and keras.config.backend() == "tensorflow":
        dynamic = run_dynamic(model, x)
        np.testing.assert_allclose(dynamic, output, rtol=1e-3, atol=1e-5)


def assert_different_starts(layer, shapes):
    """Assert that no two random weights of a layer start alike."""
    layer.build(shapes)
    random = [w for w in map(numpy, layer.trainable_weights) if w.std() > 0]
    for i, weight in enumerate(random):
        alike = (w for w in random[:i] if w.shape == weight.shape)
        assert not any(np.array_equal(w, weight) for w in alike)


def pairs(actual, expected):
    return zip(tree.flatten(actual), tree.flatten(expected), strict=True)


def random_sum(outputs):
    """A scalar that depends on every value of the outputs."""
    return sum(
        ops.sum(y * ops.convert_to_tensor(normal("factors", y.shape)))
        for y in tree.flatten(outputs)
    )


def run_dynamic(model, inputs):
    """Run a model in a TensorFlow graph that knows no batch, height or width."""
    import tensorflow as tf

    unknown = tree.map_structure(
        lambda x: tf.TensorSpec((None, None, None, x.shape[3]), x.dtype), inputs
    )
    return numpy(tf.function(model, input_signature=[unknown])(tensors(inputs)))


def saved_and_loaded(model):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        return keras.saving.load_model(path)


def assert_same_model(actual, expected):
    assert as_json(actual.get_config()) == as_json(expected.get_config())
    assert_same_weights(actual, expected)


def assert_same_weights(actual, expected):
    for weight, other in zip(actual.weights, expected.weights, strict=True):
        assert weight.path == other.path
        np.testing.assert_array_equal(numpy(weight), numpy(other), weight.path)


def as_json(config):
    return json.loads(json.dumps(config))  # Files hold lists where we have tuples.


def functional(layer, shapes):
    """A functional model of one layer, for inputs of any height and width."""
    unknown = tree.map_shape_structure(lambda s: (None, None, s[3]), shapes)
    if isinstance(shapes, dict):
        inputs = {name: keras.Input(s, name=name) for name, s in unknown.items()}
    else:
        inputs = tree.map_shape_structure(keras.Input, unknown)
    return fill(keras.Model(inputs, layer(inputs)))


def inputs_of(shapes):
    return tree.map_shape_structure(lambda s: normal(str(s), s), shapes)
