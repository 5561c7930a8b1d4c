"""What the pipelines share: endless deterministic streams of tf.data."""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import keras

from keras_lrseg.data.files import required

if TYPE_CHECKING:
    import tensorflow as tf

# The uses of a seed, whose random numbers must not be the same.
ORDER, AUGMENTATION, MIXING = 0, 1, 2


def check_sizes(size: tuple[int, int], batch_size: int) -> None:
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"Expected a size (height, width) in pixels, got {size}.")
    if batch_size < 1:
        raise ValueError(f"Expected a batch_size of 1 or more, got {batch_size}.")


def check_position(start_step: int, shard: tuple[int, int]) -> None:
    if not 0 <= shard[0] < shard[1]:
        raise ValueError(
            f"Expected shard (index, count) with 0 <= index < count, got {shard}."
        )
    if start_step < 0:
        raise ValueError(f"Expected start_step of 0 or more, got {start_step}.")


def tensorflow() -> ModuleType:
    """TensorFlow, told to leave the GPU to Keras's backend where that is another."""
    tf = required("tensorflow")
    if keras.backend.backend() != "tensorflow":
        # RuntimeError: this process uses TensorFlow on the GPU already.
        with contextlib.suppress(RuntimeError):
            tf.config.set_visible_devices([], "GPU")
    return tf


def position(n: tf.Tensor, batch_size: int, shard: tuple[int, int]) -> tf.Tensor:
    """The place in the whole stream of element n of this shard."""
    index, count = shard
    return (n // batch_size * count + index) * batch_size + n % batch_size


def shuffled(i: tf.Tensor, length: int, seed: int) -> tf.Tensor:
    """The dataset index of element i: each epoch is a permutation of its own."""
    tf = required("tensorflow")
    key = tf.random.experimental.stateless_fold_in(
        tf.constant([seed, ORDER], tf.int64), i // length
    )
    return tf.random.experimental.index_shuffle(i % length, key, length - 1)


def batched(
    numbers: tf.data.Dataset,
    element: Callable,
    batch_size: int,
    drop_remainder: bool = True,
) -> tf.data.Dataset:
    """Elements made in parallel, yet in order."""
    tf = required("tensorflow")
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    element = tf.autograph.experimental.do_not_convert(element)  # it is all operations
    pairs = numbers.map(element, num_parallel_calls=tf.data.AUTOTUNE)
    batches = pairs.batch(batch_size, drop_remainder)
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


class Door:
    """Lets reading threads into Python until the interpreter is about to end.

    A thread that enters while the interpreter ends never comes back, and TensorFlow,
    which waits for it, would hang: a program that stops in the middle of a stream.
    """

    QUIET = 0.1  # seconds without a knock, after which no thread is on its way

    def __init__(self):
        self.lock = threading.Lock()
        self.closed = False
        self.inside = self.knocks = 0

    def __enter__(self):
        with self.lock:
            self.knocks += 1
            if self.closed:
                raise RuntimeError("Python is ending: nothing is read any more.")
            self.inside += 1

    def __exit__(self, *_):
        with self.lock:
            self.inside -= 1

    def close(self) -> None:
        """Refuses further threads; returns when all have left and none knocks."""
        if self.closed:
            return
        self.closed, knocks = True, None
        while self.inside or knocks != self.knocks:
            knocks = self.knocks
            time.sleep(self.QUIET)


_door = Door()


def guarded(read: Callable) -> Callable:
    """`read` as `tf.numpy_function` may call it: from threads, through the door."""
    # Registered after TensorFlow's own exit handlers, so called before them.
    atexit.register(_door.close)

    def through_the_door(*arguments):
        with _door:
            return read(*arguments)

    return through_the_door
