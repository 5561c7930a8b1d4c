import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_lrseg.data import (
    ClassificationDataset,
    classification_pipeline,
    classification_validation,
)

SIZE = (24, 32)
PLAIN = {"magnitude": 0, "erasing": 0, "mixup": 0, "cutmix": 0, "label_smoothing": 0}


@pytest.fixture
def dataset(rng):
    images = [
        rng.integers(0, 256, (40 + 3 * i, 70 - 2 * i, 3), np.uint8) for i in range(11)
    ]
    return ClassificationDataset(images, np.arange(11) % 4, tuple("abcd"), "noise")


@pytest.fixture
def numbered():
    """Nine images, each of one colour that is its number; classes 0..8."""
    images = np.stack([np.full((*SIZE, 3), i, np.uint8) for i in range(9)])
    return ClassificationDataset(images, np.arange(9), tuple("abcdefghi"), "numbers")


def batches(stream, number):
    return list(itertools.islice(stream.as_numpy_iterator(), number))


def train(dataset, number, batch_size=4, **options):
    stream = classification_pipeline(dataset, SIZE, batch_size, **options)
    return batches(stream, number)


def together(batches):
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def assert_same(left, right):
    for a, b in zip(together(left), together(right), strict=True):
        np.testing.assert_array_equal(a, b)


def test_batches_are_of_static_shape(dataset):
    stream = classification_pipeline(dataset, SIZE, 4)
    assert stream.element_spec == (
        tf.TensorSpec((4, *SIZE, 3), tf.uint8),
        tf.TensorSpec((4, 4), tf.float32),
    )
    for _, labels in batches(stream, 5):
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-6)
        assert labels.min() >= 0.1 / 4 - 1e-6


def test_the_seed_decides_everything(dataset):
    assert_same(train(dataset, 8, seed=3), train(dataset, 8, seed=3))
    one, other = (together(train(dataset, 8, seed=seed)) for seed in (3, 4))
    assert (one[0] != other[0]).any()
    assert (one[1] != other[1]).any()
    assert_same(train(dataset, 1, seed=-1), train(dataset, 1, seed=-1))
    train(dataset, 1, seed=2**40)


@pytest.mark.parametrize("start", [1, 2, 5])
def test_start_step_continues_the_stream(dataset, start):
    # Batches of 4 from 11 images: epochs end within batches, and within pairs.
    later = train(dataset, 8 - start, start_step=start)
    assert_same(train(dataset, 8)[start:], later)


def test_shards_make_up_the_global_batch(dataset):
    whole = train(dataset, 5, batch_size=12)
    shards = [train(dataset, 5, batch_size=4, shard=(i, 3)) for i in range(3)]
    assert_same([part for step in zip(*shards, strict=True) for part in step], whole)
    later = train(dataset, 3, start_step=2, shard=(1, 3))
    assert_same(later, shards[1][2:])


def test_an_even_batch_size_does_not_change_the_elements(dataset):
    assert_same(train(dataset, 6, batch_size=2), train(dataset, 2, batch_size=6))


def test_every_epoch_is_another_permutation(numbered):
    images, labels = together(train(numbered, 9, batch_size=2, **PLAIN))
    seen = images[:, 0, 0, 0].tolist()
    assert labels.argmax(axis=1).tolist() == seen
    assert {*np.unique(labels)} == {0, 1}
    assert sorted(seen[:9]) == sorted(seen[9:]) == list(range(9))
    assert seen[:9] != seen[9:]


def test_mixed_labels_are_the_shares_of_the_images(numbered):
    """An image of one colour: the mean tells how much of which image there is."""
    options = PLAIN | {"mixup": 0.8}
    images, labels = together(train(numbered, 9, batch_size=2, **options))
    expected = (labels * np.arange(9)).sum(axis=1)
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), expected, atol=0.51)
    options = PLAIN | {"cutmix": 1.0}
    images, labels = together(train(numbered, 9, batch_size=2, **options))
    expected = (labels * np.arange(9)).sum(axis=1)
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), expected, rtol=1e-4)
    assert ((labels > 0).sum(axis=1) == 2).any()


def test_neighbours_are_augmented_differently(rng):
    image = rng.integers(0, 256, (60, 80, 3), np.uint8)
    dataset = ClassificationDataset([image] * 2, [0, 1], ("a", "b"), "twins")
    images, _ = together(train(dataset, 2, batch_size=2, **PLAIN))
    assert all((images[0] != other).any() for other in images[1:])


def test_half_of_the_images_are_flipped(rng):
    ramp = np.tile(np.arange(32, dtype=np.uint8)[None, :, None], (24, 1, 3))
    dataset = ClassificationDataset(np.stack([ramp] * 2), [0, 1], ("a", "b"), "ramp")
    images, _ = together(train(dataset, 15, scale=(1.0, 1.0), **PLAIN))
    flipped = images[:, 12, 0, 0] > images[:, 12, -1, 0]
    assert 18 <= flipped.sum() <= 42


@pytest.mark.parametrize(
    "option",
    [
        {"scale": (0.08, 1.0)},
        {"magnitude": 9},
        {"erasing": 1.0},
        {"mixup": 0.8},
        {"cutmix": 1.0},
        {"label_smoothing": 0.1},
    ],
)
def test_every_option_reaches_the_augmentation(dataset, option):
    options = {"scale": (1.0, 1.0), **PLAIN}
    plain, changed = (
        together(train(dataset, 4, **o)) for o in (options, options | option)
    )
    assert any((a != b).any() for a, b in zip(plain, changed, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 8)}, r"size \(height, width\)"),
        ({"batch_size": 3}, "even batch_size, got 3"),
        ({"batch_size": 0}, "batch_size of 1 or more"),
        ({"scale": (0.5, 2.0)}, r"scale .* in 0\.\.1, got \(0\.5, 2\.0\)"),
        ({"magnitude": 11}, r"magnitude in 0\.\.10\.0, got 11"),
        ({"erasing": 2}, r"erasing in 0\.\.1, got 2"),
        ({"mixup": -1}, "mixup in 0"),
        ({"cutmix": -1}, "cutmix in 0"),
        ({"label_smoothing": 10}, r"label_smoothing in 0\.\.1, got 10"),
        ({"start_step": -1}, "start_step of 0 or more"),
        ({"shard": (2, 2)}, r"index < count, got \(2, 2\)"),
    ],
)
def test_impossible_arguments(dataset, options, message):
    with pytest.raises(ValueError, match=message):
        classification_pipeline(dataset, **({"size": SIZE, "batch_size": 2} | options))


def test_a_corrupt_file_is_named(tmp_path):
    for name in ("n1", "n2"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (40, 30)).save(tmp_path / name / "a.jpg")
    dataset = ClassificationDataset.from_folders(tmp_path)
    (tmp_path / "n2/a.jpg").write_bytes(b"\xff\xd8 no picture")
    message = r"Cannot read the image .*n2/a\.jpg"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        train(dataset, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        batches(classification_validation(dataset, SIZE, 2), 1)


# ---- Validation


def test_validation_is_one_pass_in_order(numbered):
    stream = classification_validation(numbered, SIZE, 4)
    assert int(stream.cardinality()) == 3
    result = batches(stream, 5)
    assert [len(images) for images, _ in result] == [4, 4, 1]
    images, labels = together(result)
    assert images[:, 0, 0, 0].tolist() == list(range(9))
    np.testing.assert_array_equal(labels, np.eye(9))


def test_validation_shows_the_centre():
    """Of 120 rows and columns, 0.875 of the width, and three quarters of that high."""
    ramp = np.arange(120, dtype=np.uint8)
    image = np.stack(np.broadcast_arrays(ramp[:, None], ramp, np.uint8(0)), axis=-1)
    dataset = ClassificationDataset([image], [1], ("a", "b"), "ramp")
    ((images, _),) = classification_validation(dataset, SIZE, 1)
    step = 0.875 * 120 / 32
    for axis, length in enumerate(SIZE):
        expected = 59.5 + step * (np.arange(length) - (length - 1) / 2)
        line = np.moveaxis(images[0, ..., axis].numpy(), axis, 0)[:, 5]
        np.testing.assert_allclose(line, expected, atol=0.6)


# ---- Keras


def test_fit_takes_both(dataset):
    model = keras.Sequential(
        [keras.Input((*SIZE, 3)), keras.layers.Rescaling(1 / 255),
         keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)]
    )  # fmt: skip
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    history = model.fit(
        classification_pipeline(dataset, SIZE, 2),
        steps_per_epoch=3,
        epochs=2,
        validation_data=classification_validation(dataset, SIZE, 4),
        shuffle=False,
        verbose=0,
    ).history
    assert np.isfinite(history["loss"] + history["val_loss"]).all()
