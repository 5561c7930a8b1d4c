"""The learning-rate schedules of both papers."""

import math

import keras
from keras import ops


class _Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then a decay that a subclass gives."""

    def __init__(self, learning_rate, steps, warmup_steps=1500):
        if not 0 <= warmup_steps < steps:
            raise ValueError(
                f"{type(self).__name__} expects 0 <= warmup_steps < steps. "
                f"Received: warmup_steps={warmup_steps}, steps={steps}"
            )
        self.learning_rate = learning_rate
        self.steps = steps
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        warmup = 1e-6 + (1 - 1e-6) * step / max(self.warmup_steps, 1)
        left = 1 - (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        decay = self.decay(ops.maximum(left, 0.0))
        return self.learning_rate * ops.where(step < self.warmup_steps, warmup, decay)

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "steps": self.steps,
            "warmup_steps": self.warmup_steps,
        }


@keras.saving.register_keras_serializable(package="keras_lrseg")
class WarmupPolynomial(_Warmup):
    """Linear warm-up, then polynomial decay to 0 at `steps` (section 4.1).

    Args:
        learning_rate: the peak.
        steps: of the whole training.
        warmup_steps: of the warm-up, which starts at `learning_rate · 1e-6`.
        power: of the decay; 1 is linear.
    """

    def __init__(self, learning_rate, steps, warmup_steps=1500, power=1.0):
        super().__init__(learning_rate, steps, warmup_steps)
        self.power = power

    def decay(self, left):
        return left**self.power

    def get_config(self):
        return {**super().get_config(), "power": self.power}


@keras.saving.register_keras_serializable(package="keras_lrseg")
class WarmupCosine(_Warmup):
    """Linear warm-up, then half a cosine to 0 at `steps`: how ImageNet is trained.

    Args: as `WarmupPolynomial`, without a power.
    """

    def decay(self, left):
        return (1 - ops.cos(math.pi * left)) / 2
