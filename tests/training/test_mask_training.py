"""Models of masks train with `fit`: loss and metric, compiled, in halves, resumed."""

from unittest import mock

import keras
import numpy as np
import pytest

from keras_lrseg.training import (
    MaskClassificationLoss,
    MeanIoU,
    SegmentationCrossEntropy,
    SegmentationRecipe,
    make_optimizer,
    restore_latest,
    save_state,
)
from tests.helpers import (
    assert_same_weights,
    numpy,
    refused,
    run,
    saved_and_loaded,
    slow_on_jax,
    tensorflow_only,
)
from tests.training.toys import toy_dataset, toy_mask_segmenter, toy_segmenter

LOSS = MaskClassificationLoss(num_points=256)


def batch(count=4):
    images, masks = zip(*toy_dataset(count, size=(64, 96)), strict=True)
    return np.stack(images), np.stack(masks)


def compiled(steps=60, loss=LOSS, dtype=None, **settings):
    model = toy_mask_segmenter(dtype=dtype)
    optimizer = make_optimizer(model, 5e-3, steps, 0, global_clipnorm=1.0)
    model.compile(optimizer, loss, **settings)
    return model


def states(model):
    return [np.array(numpy(v)) for v in [*model.variables, *model.optimizer.variables]]


@pytest.fixture(scope="module")
def trained():
    """A model and the history of its training, compiled once for several tests."""
    keras.utils.set_random_seed(0)
    images, masks = batch()
    model = compiled(metrics=[MeanIoU(3)])
    repeated = np.tile(images, (16, 1, 1, 1)), np.tile(masks, (16, 1, 1))
    fit = model.fit(*repeated, batch_size=4, epochs=3, shuffle=False, verbose=0)
    return model, fit.history


def test_model_learns_and_its_file_scores_the_same(trained):
    model, history = trained
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    assert history["miou"][-1] > max(0.7, history["miou"][0])
    images, masks = batch()
    loss, miou = model.evaluate(images, masks, batch_size=4, verbose=0)
    assert miou > 0.7
    assert loss == pytest.approx(history["loss"][-1], rel=0.3)
    labels = model.predict(images, batch_size=4, verbose=0).argmax(axis=-1)
    metric = MeanIoU(3)
    metric.update_state(masks, labels)
    assert float(metric.result()) == pytest.approx(miou, abs=1e-6)
    again = saved_and_loaded(model)
    assert_same_weights(again, model)
    assert again.loss.get_config() == LOSS.get_config()
    assert again.optimizer.iterations == model.optimizer.iterations


def test_checkpoint_goes_on_with_the_same_points(trained, tmp_path):
    model, _ = trained
    images, masks = batch()
    before = states(model)
    save_state(model, tmp_path / "step_00000048.npz", 48)
    results, losses = [], []
    for _ in range(2):
        assert restore_latest(model, tmp_path) == 48
        fit = model.fit(images, masks, batch_size=4, epochs=2, shuffle=False, verbose=0)
        losses.append(fit.history["loss"])
        results.append(states(model))
    if keras.config.backend() != "tensorflow":
        assert losses[0] == losses[1]
        assert all(map(np.array_equal, *results))
        return
    # TensorFlow adds the gradients of what was gathered in any order. Measured: losses
    # 1e-7 apart, states 0.001 of the way; with other points 0.02, and 0.6 of the way.
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert distance(*results) < 0.02 * distance(results[0], before)


def distance(states, others):
    """Of all weights and moments; counters are left out."""
    pairs = zip(states, others, strict=True)
    return sum(np.square(a - b).sum() for a, b in pairs if a.dtype == "float32") ** 0.5


def test_image_without_a_labelled_pixel_trains(trained):
    model, _ = trained
    images, masks = batch()
    masks = np.full_like(masks, 255)
    fit = model.fit(images, masks, batch_size=4, shuffle=False, verbose=0)
    assert np.isfinite(fit.history["loss"]).all()
    assert all(np.isfinite(x).all() for x in states(model))


@tensorflow_only
@pytest.mark.slow
def test_compiled_by_xla_it_takes_the_same_step():
    # XLA draws other random numbers.
    points = np.random.default_rng(0).random((2, sum(LOSS.parts), 2)).astype("float32")
    losses = []
    with mock.patch.object(keras.random, "uniform", return_value=points):
        for jit_compile in (False, True):
            keras.utils.set_random_seed(0)
            model = compiled(jit_compile=jit_compile)
            losses.append([model.train_on_batch(*batch(2)) for _ in range(2)])
    np.testing.assert_allclose(*losses, rtol=1e-3)
    assert losses[0][0] != losses[0][1]


@slow_on_jax
@pytest.mark.parametrize(
    "dtype", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_half_precision_trains(dtype):
    eager = keras.config.backend() == "tensorflow"  # compiling takes longer
    model = compiled(dtype=dtype, run_eagerly=eager)
    before = states(model)
    assert 5 < model.train_on_batch(*batch(2)) < 100
    after = states(model)
    assert all(np.isfinite(x).all() for x in after)
    assert any(not np.array_equal(*pair) for pair in zip(before, after, strict=True))


def test_in_training_every_prediction_is_returned(trained):
    model, _ = trained
    images, _ = batch(1)
    predictions = run(lambda x: model(x, training=True), images)
    shapes = [[x.shape for x in pair] for pair in predictions]
    assert shapes == [[(1, 5, 4), (1, 16, 24, 5)]] * 2


@pytest.mark.parametrize("loss", [None, SegmentationCrossEntropy()])
def test_loss_of_pixels_is_refused(loss):
    model = compiled(loss=loss)
    with refused("MaskClassificationLoss()", "Received: loss="):
        model.train_on_batch(*batch(1))


def test_recipe_takes_the_loss_of_the_model():
    recipe = SegmentationRecipe(
        crop=(64, 64), batch_size=1, steps=10, learning_rate=1e-4
    )
    assert type(recipe.loss(toy_mask_segmenter())) is MaskClassificationLoss
    assert type(recipe.loss(toy_segmenter())) is SegmentationCrossEntropy


def test_queries_and_embeddings_do_not_decay():
    model = toy_mask_segmenter()
    optimizer = make_optimizer(model, 1e-3, 10, 0, weight_decay=0.1)
    decays = zip(model.trainable_variables, optimizer.weight_decays, strict=True)
    names = {v.name for v, decay in decays if decay == 0}
    assert {"query_features", "query_embeddings", "level_embeddings"} <= names
    assert "kernel" not in names
