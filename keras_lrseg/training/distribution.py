"""Training on several devices, chosen by one name.

`distribute` gives the same `Devices` on every backend; a training needs five things of
them. Make the model inside, for its variables are shared from the start:

    with distribute("data") as devices:
        model = LRFormerT(num_classes=19)
        model.compile(make_optimizer(model, 6e-5, 160_000), SegmentationCrossEntropy())
        start = restore_latest(model, "run/checkpoints")
        devices.prepare(model)
        batch = devices.share(16)
        stream = training_pipeline(
            dataset, (512, 512), batch, shard=devices.shard, start_step=start
        )
        model.fit(stream, steps_per_epoch=500, epochs=320)
        with devices.alone():
            scores = evaluate(model, validation)
        if devices.chief:
            save_model(model, "run/model.keras")
        devices.barrier()

On PyTorch this runs in as many processes as `torchrun` starts. `docs/distribution.md`
has the commands, and what each backend can.
"""

import contextlib
import datetime
import os
from collections.abc import Iterator

import keras

from keras_lrseg.training.checkpoint import all_variables
from keras_lrseg.training.collectives import mean_of_devices
from keras_lrseg.training.optimizers import GroupedAdamW, LossScaleOptimizer
from keras_lrseg.training.precision import check_precision

STRATEGIES = ("none", "data", "model")
OUTSIDE = "Make and compile the model inside `distribute`: its variables are elsewhere."


class Devices:
    """The devices of a training; this one is a single device.

    Attributes:
        count: of devices, in all processes together.
        shard: (index, count) of this process, for `training_pipeline`.
        parts: into how many the whole batch is divided.
    """

    count = 1
    shard = (0, 1)
    parts = 1

    @property
    def chief(self) -> bool:
        """Whether this process writes files and prints."""
        return self.shard[0] == 0

    def share(self, batch_size: int) -> int:
        """Return this process's part of a whole batch of `batch_size` images.

        Raises:
            ValueError: if the batch cannot be divided among the devices.
        """
        if batch_size % self.parts:
            raise ValueError(
                f"batch_size expects a multiple of {self.parts}, the number of "
                f"devices. Received: {batch_size}"
            )
        return batch_size // self.shard[1]

    def prepare(self, model: keras.Model) -> None:
        """Give all devices the same start; call it once before every `fit`.

        Processes wait here for one another: what the first one writes afterwards, none
        finds that still looks whether the folder is free.

        Args:
            model: made inside `distribute`, compiled, and restored if resumed.

        Raises:
            ValueError: if the model, its optimizer or its precision cannot be had here.
        """
        check_precision(model)

    def barrier(self) -> None:
        """Wait until every process has come here."""

    def alone(self) -> contextlib.AbstractContextManager:
        """Return a context in which a batch is not divided: a single image will do."""
        return contextlib.nullcontext()


@contextlib.contextmanager
def distribute(strategy: str | None = None) -> Iterator[Devices]:
    """Yield the devices of a training, and have models made inside live on them.

    Args:
        strategy: None or "none" for one device. "data" for a part of every batch on
            each device: all of this machine, or all of the processes started by
            `torchrun` (PyTorch) or named in `KERAS_DISTRIBUTION_*` (JAX). "model" for a
            part of every large weight on each device of this machine (JAX).

    Raises:
        ValueError: if the backend cannot do that, or has not been started for it.
    """
    backend = keras.config.backend()
    if strategy not in (None, *STRATEGIES):
        raise ValueError(
            f"distribution expects one of {', '.join(STRATEGIES)}. "
            f"Received: {strategy!r}"
        )
    if strategy == "model" and backend != "jax":
        raise ValueError(
            'distribution="model" expects the JAX backend: set KERAS_BACKEND=jax. '
            f"Received: {backend}"
        )
    if strategy in (None, "none"):
        yield Devices()
        return
    start = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[backend]
    with start(strategy) as devices:
        yield devices


# === TensorFlow ===


@contextlib.contextmanager
def _tensorflow(_):
    import tensorflow as tf

    if "TF_CONFIG" in os.environ:
        raise ValueError(
            "TensorFlow trains in one process here: Keras's `fit` fails under "
            "MultiWorkerMirroredStrategy. Unset TF_CONFIG, or take JAX or PyTorch for "
            "several machines."
        )
    gpus = tf.config.list_logical_devices("GPU")
    names = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    strategy = tf.distribute.MirroredStrategy(names)
    with strategy.scope():
        yield _Mirrored(strategy)


class _Mirrored(Devices):
    def __init__(self, strategy):
        self.strategy = strategy
        self.count = self.parts = strategy.num_replicas_in_sync

    def prepare(self, model):
        super().prepare(model)
        made_here = self.strategy.extended.variable_created_in_scope
        if not all(made_here(variable.value) for variable in model.variables):
            raise ValueError(OUTSIDE)
        if self.count > 1 and model.jit_compile:
            raise ValueError(
                "jit_compile fails on several devices with TensorFlow. Leave it out."
            )
        optimizer = _own_optimizer(model)
        if self.count > 1 and optimizer.gradient_accumulation_steps:
            raise ValueError(
                "Gradient accumulation fails on several devices with TensorFlow. Take "
                "JAX or PyTorch, or a larger batch."
            )
        _synchronise_batch_norm(model)
        self.model = model

    @contextlib.contextmanager
    def alone(self):
        """Every replica predicts the whole batch, and Keras joins the results."""
        predict = self.model.predict_on_batch

        def predict_on_batch(x):
            return keras.tree.map_structure(lambda y: y[: len(x)], predict(x))

        self.model.predict_on_batch = predict_on_batch
        try:
            yield
        finally:
            del self.model.predict_on_batch


# === JAX ===


@contextlib.contextmanager
def _jax(strategy):
    import jax

    several = "KERAS_DISTRIBUTION_JOB_ADDRESSES" in os.environ
    if several and not jax.distributed.is_initialized():
        keras.distribution.initialize()
    if strategy == "data":
        distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
    elif jax.process_count() > 1:
        raise ValueError(
            'distribution="model" expects one process. '
            f"Received: {jax.process_count()} processes"
        )
    else:
        shape = (1, jax.device_count())
        mesh = keras.distribution.DeviceMesh(shape, ("batch", "model"))
        distribution = _WeightParallel(
            layout_map=keras.distribution.LayoutMap(mesh), batch_dim_name="batch"
        )
    with distribution.scope():
        yield _Sharded(distribution, divided=strategy == "data")


class _Sharded(Devices):
    def __init__(self, distribution, divided):
        import jax

        self.distribution = distribution
        self.count = jax.device_count()
        self.shard = (jax.process_index(), jax.process_count())
        self.parts = self.count if divided else 1

    def prepare(self, model):
        super().prepare(model)
        # That all processes have the same values JAX sees to itself.
        for variable in model.variables:
            if len(variable.value.sharding.device_set) != self.count:
                raise ValueError(OUTSIDE)
        self.barrier()

    def barrier(self):
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("keras_lrseg")

    @contextlib.contextmanager
    def alone(self):
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(self.distribution)


class _WeightParallel(keras.distribution.ModelParallel):
    """Each device holds some of the output channels of every kernel."""

    def get_variable_layout(self, variable):
        axes = [None] * len(variable.shape)
        devices = self.device_mesh.shape[1]
        if len(axes) > 1 and variable.shape[-1] % devices == 0:
            axes[-1] = "model"
        return keras.distribution.TensorLayout(axes, self.device_mesh)


# === PyTorch ===


@contextlib.contextmanager
def _torch(_):
    import torch

    if "WORLD_SIZE" not in os.environ:
        raise ValueError(
            "PyTorch has a process for each device. Start them with `torchrun "
            "--nproc-per-node=NUMBER -m keras_lrseg.cli train ...`."
        )
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    started = not torch.distributed.is_initialized()
    if started:
        # The others wait while the first process reads all data to check it.
        day = datetime.timedelta(days=1)
        torch.distributed.init_process_group("nccl" if gpu else "gloo", timeout=day)
    try:
        yield _Processes()
    finally:
        if started:
            torch.distributed.destroy_process_group()


class _Processes(Devices):
    def __init__(self):
        import torch.distributed

        self.count = self.parts = torch.distributed.get_world_size()
        self.shard = (torch.distributed.get_rank(), self.count)

    def prepare(self, model):
        super().prepare(model)
        import torch

        _own_optimizer(model)
        if self.count > 1 and model.jit_compile:
            raise ValueError(
                "jit_compile fails on several devices with PyTorch. Leave it out."
            )
        for variable in all_variables(model):
            # NCCL knows no unsigned integers, which random states are.
            whole = not torch.is_floating_point(variable.value)
            value = variable.value.detach().to(torch.int64 if whole else None)
            torch.distributed.broadcast(value, 0)
            if _is_random_state(variable):
                # Each process drops other features; the first one's state is saved.
                value = value + torch.tensor([self.shard[0], 0], device=value.device)
            variable.assign(value)
        _synchronise_batch_norm(model)
        self.barrier()

    def barrier(self):
        import torch.distributed

        torch.distributed.barrier()


# === Parts ===


def _own_optimizer(model) -> GroupedAdamW:
    """Return the optimizer inside any loss scaling, which must both be ours.

    Others let the devices of PyTorch drift apart, and on TensorFlow clip and look for
    overflows on each device.
    """
    optimizer = model.optimizer
    if isinstance(optimizer, LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    if not isinstance(optimizer, GroupedAdamW):
        raise ValueError(
            "On several devices the optimizer must be one of `make_optimizer`. "
            f"Received: {type(optimizer).__name__}"
        )
    return optimizer


def _is_random_state(variable):
    return variable.path.endswith("seed_generator_state")


def _synchronise_batch_norm(model):
    """Have batch normalization take the moments of the whole batch.

    Keras's `synchronized=True` is for TensorFlow alone, and a model saved with it fails
    on PyTorch.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer._moments = _whole_moments(layer)


def _whole_moments(layer):
    def moments(inputs, mask):
        if mask is not None:
            raise ValueError(f"{layer.name} takes no mask on several devices.")
        axes = layer._reduction_axes

        def mean(x):
            local = keras.ops.mean(x, axis=axes, keepdims=True)
            return mean_of_devices(local)

        centre = mean(inputs)
        variance = mean(keras.ops.square(inputs - centre))
        return keras.ops.squeeze(centre, axes), keras.ops.squeeze(variance, axes)

    return moments
