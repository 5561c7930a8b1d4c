"""What devices tell each other in a training step.

On TensorFlow these work among the replicas of a `tf.distribute.Strategy`, on PyTorch
among the processes of `torch.distributed`. On JAX a step is one program over all
devices, and there is nothing to do; nor is there on a single device.
"""

import keras
from keras import ops


def reduce_gradients(gradients: list) -> list:
    """Return the gradients of the whole batch from those of each device's part.

    Keras divides the loss by the number of devices on TensorFlow, not on PyTorch.

    Args:
        gradients: tensors, or None where a variable has no gradient.
    """
    present = [g for g in gradients if g is not None]
    if keras.config.backend() == "torch":
        reduced = _torch_means(present)
    else:
        reduced = _sums(present)
    reduced = iter(reduced)
    return [g if g is None else next(reduced) for g in gradients]


def everywhere(condition):
    """Return whether a condition, a bool tensor (), holds on every device."""
    failures = ops.cast(ops.logical_not(condition), "float32")
    return _sums([failures])[0] == 0


def mean_of_devices(x):
    """Return the mean over the devices of a tensor; gradients flow through it."""
    count = device_count()
    return x if count == 1 else _differentiable_sum(x) / count


def shared_mean(mean, count):
    """Return the mean over all devices' elements from that over this device's.

    Its gradient is this device's part, which `reduce_gradients` puts together: means of
    different numbers of elements, as of labelled pixels, then weigh what they should.

    Args:
        mean: float tensor (), over this device's elements.
        count: float tensor (), how many those are, or their weight.
    """
    devices = device_count()
    if devices == 1:
        return mean
    (total,) = _sums([count])
    part = mean * count * devices / ops.maximum(total, keras.config.epsilon())
    if keras.config.backend() == "tensorflow":
        return part  # Keras averages the replicas' losses
    # The same value in every process, or one alone would stop at a loss of NaN.
    whole = _torch_means([part])[0]
    return part + (whole - part.detach())


def device_count() -> int:
    """Return over how many devices the functions of this module work."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        in_replica = tf.distribute.get_replica_context() is not None
        return tf.distribute.get_strategy().num_replicas_in_sync if in_replica else 1
    if keras.config.backend() == "torch":
        import torch.distributed

        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_world_size()
    return 1


def _sums(tensors):
    if device_count() == 1:
        return tensors
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)
    import torch

    # One message for all: hundreds of small ones would wait for one another.
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    torch.distributed.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def _torch_means(tensors):
    count = device_count()
    return tensors if count == 1 else [x / count for x in _sums(tensors)]


def _differentiable_sum(x):
    if keras.config.backend() == "tensorflow":
        return _sums([x])[0]
    import torch

    class Sum(torch.autograd.Function):
        """Every process's sum depends on every process's x."""

        @staticmethod
        def forward(context, x):
            return _sums([x])[0]

        @staticmethod
        def backward(context, gradient):
            return _sums([gradient])[0]

    return Sum.apply(x)
