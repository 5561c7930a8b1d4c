"""Trains a small segmenter; `test_distribution.py` starts it, once for each process.

python -m tests.training.distribution_worker train '{"strategy": "data", "out": "."}'
"""

import json
import os
import pathlib
import sys
from contextlib import nullcontext
from unittest import mock

import keras
import numpy as np

from keras_lrseg import SemanticSegmenter
from keras_lrseg.data import training_pipeline
from keras_lrseg.layers import batch_norm
from keras_lrseg.training import (
    MaskClassificationLoss,
    SegmentationCrossEntropy,
    make_optimizer,
    restore_latest,
    save_state,
)
from keras_lrseg.training.collectives import reduce_gradients
from keras_lrseg.training.distribution import distribute
from keras_lrseg.training.optimizers import GroupedAdamW, LossScaleOptimizer
from tests.training.toys import toy_dataset, toy_mask_segmenter


def small_segmenter(num_classes=3, dropout_rate=0.0):
    """No bias before a batch norm: Adam would follow the noise of its gradient."""
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, 4, padding="same", use_bias=False)(images)
    backbone = keras.Model(images, {"P3": keras.layers.ReLU()(batch_norm()(x))})
    features = keras.Input((None, None, 8), name="P3")
    x = keras.layers.Conv2D(16, 1, use_bias=False)(features)
    decoder = keras.Model({"P3": features}, batch_norm()(x), name="decoder")
    classifier = keras.layers.Conv2D(num_classes, 1, name="classifier")
    return SemanticSegmenter(backbone, decoder, classifier, dropout_rate=dropout_rate)


def ragged_dataset():
    """Images with as different numbers of ignored pixels as can be."""
    dataset = toy_dataset(8)
    for i, (_, mask) in enumerate(dataset):
        mask[: 8 * i] = 255
    return dataset


def train(
    out,
    strategy="none",
    policy="float32",
    steps=4,
    batch=4,
    accumulation_steps=None,
    dropout_rate=0.0,
    jit_compile="auto",
    resume=False,
    of_masks=False,
):
    """Write the state after some steps, every process its own: `0.npz`, `1.npz`."""
    out = pathlib.Path(out)
    with distribute(strategy) as devices:
        # PyTorch's processes begin with other weights each; JAX insists on the same.
        rank = devices.shard[0] if keras.config.backend() == "torch" else 0
        keras.utils.set_random_seed(rank)
        keras.config.set_dtype_policy(policy)
        if of_masks:
            model, loss = toy_mask_segmenter(), MaskClassificationLoss(num_points=64)
        else:
            model = small_segmenter(dropout_rate=dropout_rate)
            loss = SegmentationCrossEntropy()
        optimizer = make_optimizer(
            model,
            1e-2,
            20,
            warmup_steps=0,
            global_clipnorm=0.1,
            head_multiplier=2.0,
            accumulation_steps=accumulation_steps,
        )
        # As large as it usually starts, some devices would leave the first step out.
        optimizer.initial_scale = 2.0**10
        model.compile(optimizer, loss, jit_compile=jit_compile)
        start = restore_latest(model, out) if resume else 0
        devices.prepare(model)
        stream = training_pipeline(
            ragged_dataset(),
            (32, 48),
            devices.share(batch),
            shard=devices.shard,
            start_step=start,
        )
        with same_points() if of_masks else nullcontext():
            history = model.fit(
                stream, steps_per_epoch=steps - start, shuffle=False, verbose=0
            )
        image, _ = ragged_dataset()[0]
        with devices.alone():
            logits = model.predict_on_batch(image[None])
        if devices.chief:
            save_state(model, out / f"step_{steps:08d}.npz", steps)
        devices.barrier()
        assert (out / f"step_{steps:08d}.npz").exists()
        variables = [*model.variables, *model.optimizer.variables]
        np.savez(
            out / f"{devices.shard[0]}.npz",
            count=devices.count,
            loss=history.history["loss"][0],
            logits=logits,
            names=[v.path for v in variables],
            **{str(i): to_numpy(v) for i, v in enumerate(variables)},
        )


def same_points():
    """The points at which masks are compared: the same in every image and step."""

    def uniform(shape, **_):
        points = np.random.default_rng(0).random((1, *shape[1:]), "float32")
        return keras.ops.broadcast_to(points, shape)

    return mock.patch.object(keras.random, "uniform", uniform)


def overflow(out):
    """Apply scaled gradients of which the last device's alone are infinite."""
    with distribute("data") as devices:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        weights = model.trainable_variables
        optimizer = LossScaleOptimizer(GroupedAdamW(0.1, [1, 1], [0, 0]))
        optimizer.build(weights)
        before = list(map(to_numpy, weights))

        def step(device):
            bad = keras.ops.cast(device == devices.count - 1, "float32")
            gradient = 1 / (1 - bad)
            optimizer.apply([gradient * keras.ops.ones(v.shape) for v in weights])

        if keras.config.backend() == "tensorflow":
            import tensorflow as tf

            @tf.function
            def replica():
                step(tf.distribute.get_replica_context().replica_id_in_sync_group)

            devices.strategy.run(replica)
        else:
            step(keras.ops.convert_to_tensor(devices.shard[0]))
        for old, new in zip(before, weights, strict=True):
            np.testing.assert_array_equal(old, to_numpy(new))
        assert to_numpy(optimizer.dynamic_scale) == optimizer.initial_scale / 2


def mask_loss(scales, device, devices):
    """The loss of this device's part of images that show 4, 1, 0 and 2 classes."""
    rng = np.random.default_rng(0)
    labels = np.full((4, 12, 12), 255)
    for image, count in zip(labels, (4, 1, 0, 2), strict=True):
        image[: 3 * count] = np.repeat(np.arange(count), 3)[:, None]
    classes = rng.standard_normal((4, 5, 6)).astype("float32")
    masks = rng.standard_normal((4, 6, 6, 5)).astype("float32")
    labels, classes, masks = (
        keras.ops.convert_to_tensor(x.reshape(devices, -1, *x.shape[1:]))[device]
        for x in (labels.astype("int32"), classes, masks)
    )
    loss = MaskClassificationLoss(num_points=50)
    points = rng.random((1, sum(loss.parts), 2)).astype("float32")
    points = np.repeat(points, 4 // devices, axis=0)
    with mock.patch.object(keras.random, "uniform", return_value=points):
        return loss(labels, [[classes * scales[:, None], masks * scales]])


def masks(out):
    """Write the loss of masks over all devices, and its gradient."""
    out = pathlib.Path(out)
    with distribute("data") as devices:
        scales = keras.Variable(np.linspace(0.5, 2, 5, dtype="float32"))
        if keras.config.backend() == "tensorflow":
            import tensorflow as tf

            @tf.function
            def replica():
                device = tf.distribute.get_replica_context().replica_id_in_sync_group
                with tf.GradientTape() as tape:
                    value = mask_loss(scales.value, device, 2)
                return value, reduce_gradients([tape.gradient(value, scales.value)])[0]

            parts, gradients = devices.strategy.run(replica)
            value, gradient = sum(parts.values), gradients.values[0]
        else:
            value = mask_loss(scales.value, devices.shard[0], 2)
            value.backward()
            (gradient,) = reduce_gradients([scales.value.grad])
        path = out / f"{devices.shard[0]}.npz"
        np.savez(path, value=to_numpy(value), gradient=to_numpy(gradient))


def outside(out):
    """Prepare a model that was not made where it is to be trained."""
    model = small_segmenter()
    with distribute("data") as devices:
        model.compile(make_optimizer(model, 1e-2, 20, 0), "mse")
        devices.prepare(model)


def foreign(out):
    """Prepare a model with an optimizer of Keras's."""
    with distribute("data") as devices:
        model = small_segmenter()
        model.compile("adamw", "mse")
        devices.prepare(model)


def to_numpy(variable):
    return keras.ops.convert_to_numpy(variable)


if __name__ == "__main__":
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        cpus = [tf.config.LogicalDeviceConfiguration()] * int(os.environ["DEVICES"])
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], cpus
        )
    tasks = {task.__name__: task for task in (train, overflow, masks, outside, foreign)}
    try:
        tasks[sys.argv[1]](**json.loads(sys.argv[2]))
    except ValueError as error:
        # One write, so that the lines of two processes do not mix.
        sys.stdout.write(f"refused: {error}\n")
        sys.stdout.flush()
        os._exit(3)  # at once: other processes may wait for this one
