"""The learning-rate schedule of both papers."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_lrseg")
class WarmupPolynomial(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then polynomial decay to 0 at `steps` (section 4.1).

    Args:
        learning_rate: the peak.
        steps: of the whole training.
        warmup_steps: of the warm-up, which starts at `learning_rate · 1e-6`.
        power: of the decay; 1 is linear.
    """

    def __init__(self, learning_rate, steps, warmup_steps=1500, power=1.0):
        if not 0 <= warmup_steps < steps:
            raise ValueError(
                "WarmupPolynomial expects 0 <= warmup_steps < steps. "
                f"Received: warmup_steps={warmup_steps}, steps={steps}"
            )
        self.learning_rate = learning_rate
        self.steps = steps
        self.warmup_steps = warmup_steps
        self.power = power

    def __call__(self, step):
        step = ops.cast(step, "float32")
        warmup = 1e-6 + (1 - 1e-6) * step / max(self.warmup_steps, 1)
        left = 1 - (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        decay = ops.maximum(left, 0.0) ** self.power
        return self.learning_rate * ops.where(step < self.warmup_steps, warmup, decay)

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "steps": self.steps,
            "warmup_steps": self.warmup_steps,
            "power": self.power,
        }
