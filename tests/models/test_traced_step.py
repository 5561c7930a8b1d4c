"""`compile(jit_compile=True)` under PyTorch: one graph without Keras, equal results."""

import keras
import numpy as np
import pytest

from keras_lrseg.training import (
    MaskClassificationLoss,
    SegmentationCrossEntropy,
    make_optimizer,
)
from tests.helpers import numpy
from tests.models import test_image_classifier, test_mask_segmenter
from tests.tiny import tiny_backbone, tiny_segmenter

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(
    keras.config.backend() != "torch", reason="the others compile through Keras"
)


def segmenter(dtype):
    backbone = tiny_backbone(drop_path_rate=0.3, dtype=dtype)
    return tiny_segmenter(4, dtype, backbone, dropout_rate=0.2)


def classifier(dtype):
    return test_image_classifier.tiny_classifier(dtype=dtype)


LOSSES = {
    segmenter: SegmentationCrossEntropy(),
    test_mask_segmenter.tiny: MaskClassificationLoss(num_points=64),
    classifier: "sparse_categorical_crossentropy",
}


def batch(shape, make, seed=0):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (*shape, 3), "uint8")
    size = shape[:1] if make is classifier else shape
    return images, random.integers(0, 4, size, "uint8")


def trained(make, dtype, shapes, jit_compile):
    """Losses of one step for each shape, and the model after them."""
    keras.utils.set_random_seed(0)
    model = make(dtype)
    optimizer = make_optimizer(model, 1e-3, steps=9, warmup_steps=0)
    model.compile(optimizer, LOSSES[make], jit_compile=jit_compile)
    losses = [
        model.train_on_batch(*batch(shape, make, seed), return_dict=True)
        for seed, shape in enumerate(shapes)
    ]
    return losses, model


def assert_same_variables(model, expected):
    variables = [*model.variables, *model.metrics_variables]
    others = [*expected.variables, *expected.metrics_variables]
    for variable, other in zip(variables, others, strict=True):
        assert variable.dtype == other.dtype
        np.testing.assert_array_equal(numpy(variable), numpy(other))


@pytest.mark.parametrize("make", list(LOSSES))
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_steps_are_those_without_it(make, dtype):
    shapes = [(2, 32, 48), (2, 32, 48), (1, 64, 32)]
    losses, plain = trained(make, dtype, shapes, False)
    traced_losses, traced = trained(make, dtype, shapes, True)
    assert traced_losses == losses
    assert_same_variables(traced, plain)
    graphs = traced.train_function.graphs
    assert len(graphs) == 2  # shapes
    for graph, _ in graphs.values():
        copies = torch.ops.aten.lift_fresh_copy.default
        assert not graph.graph.find_nodes(op="call_function", target=copies)
    images, _ = batch(shapes[0], make)
    np.testing.assert_array_equal(traced.predict(images), plain.predict(images))


def test_a_saved_model_goes_on_and_can_be_compiled_without(tmp_path):
    shape = (2, 32, 48)
    _, model = trained(segmenter, "float32", [shape], True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    data = batch(shape, segmenter)
    assert loaded.train_on_batch(*data) > 0
    assert loaded.train_function.graphs
    loaded.backbone.trainable = False
    loaded.compile("sgd", LOSSES[segmenter])
    frozen = [numpy(variable) for variable in loaded.backbone.weights]
    loaded.train_on_batch(*data)
    for variable, value in zip(loaded.backbone.weights, frozen, strict=True):
        np.testing.assert_array_equal(numpy(variable), value)


class Counting(keras.layers.Layer):
    """Has a loss, a metric and a variable that follows another one."""

    def build(self, shape):
        self.last, self.before = (self.add_weight(trainable=False) for _ in range(2))
        self.mean = keras.metrics.Mean()

    def call(self, x, training=False):
        if training:
            size = keras.ops.mean(keras.ops.abs(x))
            self.add_loss(0.1 * size)
            self.mean.update_state(size)
            self.before.assign(self.last)
            self.last.assign(size)
        return x


def with_head(*layers):
    head = keras.Sequential([*layers, keras.layers.Dense(4)])

    def make(dtype):
        return tiny_segmenter(4, dtype, classifier=head)

    return make


def test_layers_of_ones_own(monkeypatch):
    def make(dtype):
        layers = keras.layers
        conv = layers.Conv2D(8, 1, activity_regularizer="l2", kernel_regularizer="l1")
        normalize = layers.BatchNormalization()
        return with_head(conv, normalize, Counting(), layers.Dropout(0.2))(dtype)

    monkeypatch.setitem(LOSSES, make, SegmentationCrossEntropy())
    losses, plain = trained(make, "float32", [(2, 32, 48)] * 3, False)
    traced_losses, traced = trained(make, "float32", [(2, 32, 48)] * 3, True)
    assert traced_losses == losses
    assert_same_variables(traced, plain)


def test_what_cannot_be_noted_down_is_refused(monkeypatch):
    make = with_head(keras.layers.Dropout(0.2, seed=1))
    monkeypatch.setitem(LOSSES, make, SegmentationCrossEntropy())
    with pytest.raises(ValueError, match="cannot note down semantic_segmenter"):
        trained(make, "float32", [(2, 32, 48)], True)


def test_only_a_step_of_its_own_runs_the_graph():
    shape = (2, 32, 48)
    _, model = trained(segmenter, "float32", [shape], True)
    images = torch.from_numpy(batch(shape, segmenter)[0])
    values = [variable.value * 0 for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    logits, _ = model.stateless_call(values, others, images, training=True)
    assert not logits.any()
