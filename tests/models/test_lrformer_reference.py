"""Whole models against numbers of the authors' code, from the same seeded weights."""

import functools

import keras
import numpy as np
import pytest

import keras_lrseg
from tests.helpers import images, loss_and_gradients, no_random_start, numpy, run
from tests.reference import (
    assert_golden,
    golden,
    golden_segmenter,
    load_state,
    shared_golden_segmenter,
    to_torch_layout,
    torch_state,
    torch_tensor,
    torch_variables,
)


def assert_reference(model, case, batch=1):
    """Compare the pyramid, the logits and the enlarged logits."""
    height, width = map(int, case.rpartition("_")[2].split("x"))
    outputs = run(with_features(model), images(case, height, width, batch))
    for name, output in outputs.items():
        output = output.transpose(0, 3, 1, 2)
        assert_golden(output, "models.npz", f"{case}/{name}")


@functools.cache
def with_features(model):
    """The model with its features and logits as outputs, by the authors' names."""
    images = keras.Input((None, None, 3))
    pyramid = model.backbone(images)
    outputs = {f"F{i}": pyramid[f"P{i + 1}"] for i in (1, 2, 3, 4)}
    outputs["logits"] = model.classifier(model.decoder(pyramid))
    outputs["seg_logits"] = model.get_layer("resize")([outputs["logits"], images])
    return keras.Model(images, outputs)


@pytest.mark.parametrize(
    ("size", "batch"), [("64x64", 2), ("96x160", 1), ("640x512", 1)]
)
def test_tiny_model_reproduces_the_authors_outputs(size, batch):
    assert_reference(shared_golden_segmenter(), f"lrformer_tiny_test_{size}", batch)


@functools.cache
def published(variant):
    make = getattr(keras_lrseg, f"LRFormer{variant}")
    with no_random_start():
        model = make(num_classes=150, include_preprocessing=False)
    return load_state(model, torch_state(f"lrformer_{variant.lower()}"))


@pytest.mark.parametrize(
    "size", [pytest.param("512x512", marks=pytest.mark.slow), "512x768"]
)
def test_t_reproduces_the_authors_outputs(size):
    assert_reference(published("T"), f"lrformer_t_{size}")


@pytest.mark.slow
def test_s_reproduces_the_authors_outputs():
    assert_reference(published("S"), "lrformer_s_512x512")


@pytest.fixture(scope="module")
def train_step():
    """One training step: the loss, gradients by state_dict key, the model after it."""
    model = golden_segmenter()
    numbers = golden("train_step.npz")
    labels = keras.ops.convert_to_tensor(numbers["labels"].astype("int32"))
    # The authors train on the mean over all pixels; golden is that over valid ones.
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=255
    )
    x = images(int(numbers["image_seed"]), *labels.shape[1:], batch=2)
    value, gradients = loss_and_gradients(
        model, lambda logits: loss(labels, logits), x, training=True
    )
    by_path = dict(
        zip((v.path for v in model.trainable_weights), gradients, strict=True)
    )
    variables = torch_variables(model)
    gradients = {k: by_path[v.path] for k, v in variables.items() if v.trainable}
    return value, gradients, variables


def test_loss_is_the_authors(train_step):
    assert train_step[0] == pytest.approx(float(golden("train_step.npz")["loss"]), 1e-5)


def test_every_gradient_is_the_authors(train_step):
    numbers = golden("train_step.npz")
    keys, gradients = numbers["keys"].tolist(), train_step[1]
    assert sorted(keys) == sorted(gradients)
    largest = numbers["norms"].max()
    rows = zip(keys, numbers["norms"], numbers["index"], numbers["values"], strict=True)
    for key, norm, index, values in rows:
        gradient = to_torch_layout(gradients[key]).ravel()
        if key in numbers["zero"]:  # Of the loss by a bias in front of a normalization.
            assert np.linalg.norm(gradient) <= 1e-5 * largest, key
            continue
        assert np.linalg.norm(gradient) == pytest.approx(norm, rel=0.01), key
        typical = norm / gradient.size**0.5
        assert abs(gradient[index] - values).max() <= 0.05 * typical, key


def test_moving_means_are_the_authors(train_step):
    numbers, variables = golden("train_step.npz"), train_step[2]
    means = [key for key in variables if key.endswith("running_mean")]
    assert len(means) == 9
    for key in means:
        actual, expected = numpy(variables[key]), numbers[f"after/{key}"]
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("norms", "pixels"),
    [
        ("backbone.patch_embed1.conv1.1 backbone.patch_embed1.conv1.4", 2 * 48 * 64),
        ("backbone.patch_embed1.conv1.7", 2 * 24 * 32),
        ("decode_head.squeeze1.bn decode_head.squeeze2.bn", 2 * 12 * 16),
        ("decode_head.fuse_block1.norm1 decode_head.fuse_block1.norm2", 2 * 12 * 16),
        ("decode_head.fuse_block2.norm1 decode_head.fuse_block2.norm2", 2 * 12 * 16),
    ],
)
def test_moving_variances_are_the_authors_but_for_bessels_correction(
    train_step, norms, pixels
):
    numbers, variables = golden("train_step.npz"), train_step[2]
    for norm in norms.split():
        key = f"{norm}.running_var"
        before = torch_tensor(key, variables[key].shape)
        # PyTorch's moving variance takes the unbiased one, n / (n - 1) of Keras's.
        biased = (numpy(variables[key]) - 0.9 * before) / 0.1
        unbiased = 0.9 * before + 0.1 * biased * pixels / (pixels - 1)
        np.testing.assert_allclose(unbiased, numbers[f"after/{key}"], rtol=2e-5)
