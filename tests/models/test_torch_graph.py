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


def batch(shape, make):
    random = np.random.default_rng(0)
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
        model.train_on_batch(*batch(shape, make), return_dict=True) for shape in shapes
    ]
    return losses, model


@pytest.mark.parametrize("make", list(LOSSES))
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_steps_are_those_without_it(make, dtype):
    shapes = [(2, 32, 48), (2, 32, 48), (1, 64, 32)]
    losses, plain = trained(make, dtype, shapes, False)
    traced_losses, traced = trained(make, dtype, shapes, True)
    assert traced_losses == losses
    for expected, variable in zip(plain.variables, traced.variables, strict=True):
        assert expected.dtype == variable.dtype
        np.testing.assert_array_equal(numpy(variable), numpy(expected))
    graphs = traced.training_graph.graphs
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
    assert loaded.training_graph is not None
    loaded.compile("sgd", LOSSES[segmenter])
    loaded.train_on_batch(*data)
    assert loaded.training_graph is None
