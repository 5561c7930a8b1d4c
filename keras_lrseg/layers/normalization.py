"""Batch and group normalization as the published weights were trained with them."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_lrseg")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` of the last axis, quick in PyTorch's inference.

    One pass there, where `keras.ops` takes three. Takes the same arguments but `axis`,
    `center` and `scale`; masks are not looked at.

    Input and output: (B, H, W, C).
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        _check_affine(self)

    def call(self, inputs, training=None):
        if keras.config.backend() != "torch" or (training and self.trainable):
            return super().call(inputs, training=training)
        import torch.nn.functional as F

        weights = (self.moving_mean, self.moving_variance, self.gamma, self.beta)
        weights = (ops.cast(weight, "float32") for weight in weights)
        x = ops.cast(inputs, "float32").permute(0, 3, 1, 2)
        x = F.batch_norm(x, *weights, eps=self.epsilon).permute(0, 2, 3, 1)
        return ops.cast(x, self.compute_dtype)

    def inference_map(self):
        """Return a and b of `a · x + b`, which the layer is in inference, (C,) each."""
        variance = ops.convert_to_tensor(self.moving_variance)
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)
        return scale, self.beta - self.moving_mean * scale


def batch_norm(**settings) -> BatchNormalization:
    """Batch normalization with PyTorch's momentum and epsilon."""
    return BatchNormalization(momentum=0.9, epsilon=1e-5, **settings)


@keras.saving.register_keras_serializable(package="keras_lrseg")
class GroupNormalization(keras.layers.GroupNormalization):
    """`keras.layers.GroupNormalization` without tensors of rank 5.

    Phones' delegates take four axes at most. The statistics are those of each channel
    first, then of the few channels of a group; always float32.

    Args:
        groups: number of groups; divides the number of channels.
        epsilon: added to the variance.

    Input and output: (B, H, W, C).
    """

    def __init__(self, groups=32, epsilon=1e-5, **kwargs):
        super().__init__(groups=groups, epsilon=epsilon, **kwargs)
        _check_affine(self)

    def call(self, inputs):
        # All in float32: PyTorch on GPUs takes no mixture.
        x, gamma, beta = (
            ops.cast(part, "float32") for part in (inputs, self.gamma, self.beta)
        )
        if _torch_can_differentiate(inputs):
            import torch.nn.functional as F

            x = x.permute(0, 3, 1, 2)
            x = F.group_norm(x, self.groups, gamma, beta, self.epsilon)
            return ops.cast(x.permute(0, 2, 3, 1), inputs.dtype)
        mean = self._mean_of_groups(ops.mean(x, axis=(1, 2)))
        centred = x - mean
        variance = self._mean_of_groups(ops.mean(ops.square(centred), axis=(1, 2)))
        x = centred * (gamma * ops.rsqrt(variance + self.epsilon)) + beta
        return ops.cast(x, inputs.dtype)

    def _mean_of_groups(self, x):
        """Replace each channel's value (B, C) by its group's mean, (B, 1, 1, C)."""
        channels = x.shape[-1]
        size = channels // self.groups
        x = ops.reshape(x, (-1, self.groups, size))
        x = ops.mean(x, axis=-1, keepdims=True)  # (B, groups, 1)
        # A product: delegates do not take the operator that repeats.
        x = x * ops.ones((1, 1, size), x.dtype)
        return ops.reshape(x, (-1, 1, 1, channels))


def _check_affine(layer):
    if layer.axis != -1 or not (layer.center and layer.scale):
        raise ValueError(
            f"{type(layer).__name__} normalises the last axis, with scale and center. "
            f"Received: axis={layer.axis}, scale={layer.scale}, center={layer.center}"
        )


def _torch_can_differentiate(x):
    """Whether PyTorch has its operator for x; it crashes if the weights alone learn."""
    if keras.config.backend() != "torch":
        return False
    import torch

    return x.requires_grad or not torch.is_grad_enabled()
