import itertools
import os
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_lrseg.data import (
    MEAN_COLOUR,
    SegmentationDataset,
    training_pipeline,
    validation_pipeline,
)

CROP = (32, 48)


def batches(stream, number):
    return list(itertools.islice(stream.as_numpy_iterator(), number))


def train(dataset, number, batch_size=4, **options):
    return batches(training_pipeline(dataset, CROP, batch_size, **options), number)


def assert_same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


@pytest.fixture
def numbered():
    """Nine images, each of one colour that is its number."""
    images = np.stack([np.full((*CROP, 3), i, np.uint8) for i in range(9)])
    return SegmentationDataset.from_arrays(
        images, np.zeros((9, *CROP), np.uint8), ["a", "b"]
    )


def numbers(stream):
    return [int(image[0, 0, 0]) for images, _ in stream for image in images]


PLAIN = {"scale": (1.0, 1.0), "photometric": False}


def test_batches_are_uint8_and_of_static_shape(arrays):
    stream = training_pipeline(arrays, CROP, 4)
    assert stream.element_spec == (
        tf.TensorSpec((4, 32, 48, 3), tf.uint8),
        tf.TensorSpec((4, 32, 48), tf.uint8),
    )
    for _, masks in batches(stream, 6):
        assert set(np.unique(masks)) <= {0, 1, 2, 3, 255}


def test_the_seed_decides_everything(arrays):
    first, again = train(arrays, 8, seed=3), train(arrays, 8, seed=3)
    assert_same(first, again)
    other = train(arrays, 8, seed=4)
    assert any((a[0] != b[0]).any() for a, b in zip(first, other, strict=True))
    assert_same(train(arrays, 1, seed=2**40), train(arrays, 1, seed=2**40))
    assert_same(train(arrays, 1, seed=-1), train(arrays, 1, seed=-1))


def test_slow_reading_does_not_change_the_order(arrays):
    class Slow(SegmentationDataset):
        def read(self, index, *load):
            time.sleep(0.01 * (index % 3))
            return super().read(index, *load)

    slow = Slow(arrays.images, arrays.masks, arrays.classes, arrays.palette, "slow")
    assert_same(train(arrays, 6), train(slow, 6))


@pytest.mark.parametrize("start", [1, 2, 5])
def test_start_step_continues_the_stream(arrays, start):
    # Batches of 4 from 11 images: epochs end within batches.
    assert_same(train(arrays, 8)[start:], train(arrays, 8 - start, start_step=start))


def test_shards_make_up_the_global_batch(arrays):
    whole = train(arrays, 5, batch_size=6)
    shards = [train(arrays, 5, batch_size=2, shard=(i, 3)) for i in range(3)]
    together = [
        tuple(np.concatenate(parts) for parts in zip(*batch, strict=True))
        for batch in zip(*shards, strict=True)
    ]
    assert_same(together, whole)


def test_a_shard_continues_too(arrays):
    options = {"batch_size": 2, "shard": (1, 2)}
    later = train(arrays, 3, start_step=2, **options)
    assert_same(train(arrays, 5, **options)[2:], later)


def test_every_epoch_is_another_permutation(numbered):
    seen = numbers(train(numbered, 9, batch_size=3, **PLAIN))
    epochs = [seen[i : i + 9] for i in (0, 9, 18)]
    assert all(sorted(epoch) == list(range(9)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_no_image_comes_twice_in_an_epoch_of_all_shards(numbered):
    shards = [
        numbers(train(numbered, 3, batch_size=1, shard=(i, 3), **PLAIN))
        for i in range(3)
    ]
    assert sorted(itertools.chain(*shards)) == list(range(9))


def test_one_image_and_a_batch_larger_than_the_dataset(numbered):
    assert numbers(train(numbered.subset([5]), 2, batch_size=2, **PLAIN)) == [5] * 4
    (batch,) = train(numbered, 1, batch_size=20, **PLAIN)
    assert len(batch[0]) == 20


def test_arguments_reach_the_augmentation(arrays):
    plain = train(arrays, 3, scale=(1.0, 1.0), photometric=False, flip=False)
    for option in ({"scale": (0.5, 2.0)}, {"photometric": True}, {"flip": True}):
        options = {"scale": (1.0, 1.0), "photometric": False, "flip": False} | option
        other = train(arrays, 3, **options)
        assert any((a[0] != b[0]).any() for a, b in zip(plain, other, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": (0, 8)}, r"size \(height, width\)"),
        ({"batch_size": 0}, "batch_size of 1 or more, got 0"),
        ({"scale": (2.0, 0.5)}, r"low <= high <= 100, got \(2\.0, 0\.5\)"),
        ({"scale": (0.0, 0.5)}, "0 < low"),
        ({"short_side": 0}, r"short_side in 1\.\.16384, got 0"),
        ({"max_class_share": 75}, r"0\.\.1, got 75"),
        ({"start_step": -1}, "start_step of 0 or more"),
        ({"shard": (2, 2)}, r"index < count, got \(2, 2\)"),
    ],
)
def test_impossible_arguments(arrays, options, message):
    with pytest.raises(ValueError, match=message):
        training_pipeline(arrays, **({"crop": CROP, "batch_size": 2} | options))


# ---- Files that cannot be used


def truncate_image(images, masks):
    path = images / "a.jpg"
    path.write_bytes(path.read_bytes()[:-400])


def write_wrong_label(images, masks):
    Image.new("L", (64, 48), 7).save(masks / "a.png")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncate_image, r"Cannot read the image .*a\.jpg"),
        (write_wrong_label, r"train ids 0\.\.3 or 255 .*got 7: .*a\.png"),
    ],
)
def test_a_bad_file_is_named(folders, spoil, message):
    dataset = SegmentationDataset.from_folders(*folders, ["a", "b", "c", "d"])
    spoil(*folders)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        train(dataset, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        batches(validation_pipeline(dataset, CROP, 2), 2)


# ---- The end of the program


def test_a_program_may_end_in_the_middle_of_a_stream():
    program = """
from keras_lrseg.data import load_demo, training_pipeline
batches = iter(training_pipeline(load_demo("train"), (256, 256), 8))
next(batches)
print("done")
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
        env=os.environ | {"KERAS_BACKEND": "numpy"},
    )
    assert result.stdout == "done\n"


# ---- Validation


def test_validation_is_one_pass_in_order(numbered):
    stream = validation_pipeline(numbered, CROP, 4)
    assert int(stream.cardinality()) == 3
    result = batches(stream, 10)
    assert len(result) == 3
    assert numbers(result)[:9] == list(range(9))
    assert_same(result, batches(stream, 10))


def test_validation_fills_the_last_batch_with_ignored_pixels(numbered):
    images, masks = batches(validation_pipeline(numbered, CROP, 4), 3)[-1]
    assert images.shape == (4, 32, 48, 3)
    assert (masks[0] == 0).all()
    assert (masks[1:] == 255).all()
    assert (images[1:] == MEAN_COLOUR).all()


def test_validation_keeps_the_aspect(rng):
    tall = rng.integers(0, 100, (96, 48, 3), np.uint8), np.ones((96, 48), np.uint8)
    small = rng.integers(0, 100, (8, 24, 3), np.uint8), np.ones((8, 24), np.uint8)
    pairs = zip(tall, small, strict=True)
    dataset = SegmentationDataset.from_arrays(*map(list, pairs), ["a", "b"])
    ((images, masks),) = batches(validation_pipeline(dataset, CROP, 2), 1)
    for image, mask, (height, width) in zip(
        images, masks, [(32, 16), (16, 48)], strict=True
    ):
        assert (mask[:height, :width] == 1).all()
        assert (mask == 1).sum() == height * width
        assert (image[height:] == MEAN_COLOUR).all()
        assert (image[:, width:] == MEAN_COLOUR).all()
    whole = tf.image.resize(tall[0], (32, 16), antialias=True).numpy()
    np.testing.assert_allclose(images[0, :, :16], whole, atol=0.51)


# ---- Keras


def test_fit_takes_both(arrays):
    model = keras.Sequential(
        [keras.Input((*CROP, 3)), keras.layers.Rescaling(1 / 255),
         keras.layers.Conv2D(4, 1)]
    )  # fmt: skip
    loss = keras.losses.SparseCategoricalCrossentropy(True, ignore_class=255)
    model.compile("sgd", loss)
    history = model.fit(
        training_pipeline(arrays, CROP, 2),
        steps_per_epoch=3,
        epochs=2,
        validation_data=validation_pipeline(arrays, CROP, 4),
        shuffle=False,
        verbose=0,
    ).history
    assert np.isfinite(history["loss"] + history["val_loss"]).all()
