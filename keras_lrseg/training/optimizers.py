"""AdamW as both papers use it (section 4.1), the same on every backend."""

import math

import keras
from keras import ops
from keras.optimizers import schedules

from keras_lrseg.training.collectives import everywhere, reduce_gradients
from keras_lrseg.training.schedule import WarmupCosine, WarmupPolynomial

# Names of the variables that weight decay leaves alone: norms, biases, scales, and what
# is learnt for positions, levels and queries.
NO_DECAY = (
    "gamma",
    "beta",
    "bias",
    "scale",
    "attention_bias",
    "bias_table",
    "query_features",
    "query_embeddings",
    "level_embeddings",
)


def make_optimizer(
    model: keras.Model,
    learning_rate: float,
    steps: int,
    warmup_steps: int = 1500,
    weight_decay: float = 0.01,
    global_clipnorm: float | None = None,
    head_multiplier: float = 1.0,
    backbone_multiplier: float = 1.0,
    power: float = 1.0,
    schedule: str = "polynomial",
    accumulation_steps: int | None = None,
) -> keras.optimizers.Optimizer:
    """Return AdamW with warm-up, polynomial decay and groups of variables.

    The papers' recipe is `head_multiplier=10`, and `global_clipnorm=35` for LRFormer;
    with a query decoder `backbone_multiplier=0.1, power=0.9, global_clipnorm=0.1`.

    The groups are made of the model's parts: the backbone is what `model.backbone`
    holds, the head all the rest. The authors look for words in names instead, so that
    in OffSeg `talking_head` layers of the backbone learn at the head's rate. Norms,
    biases, layer scales and learnt embeddings do not decay here wherever they are; in
    the authors' code biases, layer scales and the stem's norms do, and the decoders'
    norms but for Mask2Former's.

    Args:
        model: with its layers frozen already, if any are to be.
        learning_rate: the peak; the papers' 6e-5 is for a pre-trained backbone.
        steps: updates of the whole training.
        warmup_steps: updates of the linear warm-up.
        weight_decay: decoupled decay per step, times the learning rate.
        global_clipnorm: largest norm of all gradients together; None: no clipping.
        head_multiplier: of the learning rate outside `model.backbone`.
        backbone_multiplier: of the learning rate in `model.backbone`.
        power: of the polynomial decay.
        schedule: "polynomial" or "cosine", after the warm-up.
        accumulation_steps: batches whose mean gradient makes one update, 2 or more;
            None: every batch is one.

    Raises:
        ValueError: if a multiplier is given and the model has no `backbone`.
    """
    backbone = getattr(model, "backbone", None)
    if backbone is None and not head_multiplier == backbone_multiplier == 1:
        raise ValueError(
            "head_multiplier and backbone_multiplier expect a model with `backbone`. "
            f"Received: {model}"
        )
    inside = {id(v) for v in backbone.trainable_variables} if backbone else set()
    variables = model.trainable_variables
    if schedule == "cosine":
        rate = WarmupCosine(learning_rate, steps, warmup_steps)
    else:
        rate = WarmupPolynomial(learning_rate, steps, warmup_steps, power)
    optimizer = GroupedAdamW(
        rate,
        multipliers=[
            backbone_multiplier if id(v) in inside else head_multiplier
            for v in variables
        ],
        weight_decays=[0.0 if v.name in NO_DECAY else weight_decay for v in variables],
        global_clipnorm=global_clipnorm,
        gradient_accumulation_steps=accumulation_steps,
    )
    if model.dtype_policy.name == "mixed_float16":
        return LossScaleOptimizer(optimizer, name="loss_scale_optimizer")
    return optimizer


@keras.saving.register_keras_serializable(package="keras_lrseg")
class GroupedAdamW(keras.optimizers.Optimizer):
    """AdamW with a rate and a weight decay for each variable, in PyTorch's arithmetic.

    With several devices it averages their gradients before it clips them: Keras, on
    TensorFlow, would clip those of each device.

    Args:
        learning_rate: float or schedule.
        multipliers: of the learning rate, one for each trainable variable in order.
        weight_decays: per step, times the learning rate; one for each variable.
        beta_1, beta_2, epsilon: of Adam; the defaults are PyTorch's.
        settings: other arguments of `keras.optimizers.Optimizer`.
    """

    def __init__(
        self,
        learning_rate,
        multipliers,
        weight_decays,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        **settings,
    ):
        super().__init__(learning_rate, weight_decay=None, **settings)
        self.multipliers = [float(x) for x in multipliers]
        self.weight_decays = [float(x) for x in weight_decays]
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, variables):
        if self.built:
            return
        counts = len(self.multipliers), len(self.weight_decays)
        if counts != (len(variables), len(variables)):
            raise ValueError(
                "GroupedAdamW expects a multiplier and a weight decay for each of the "
                f"{len(variables)} trainable variables. Received: {counts[0]} and "
                f"{counts[1]}. Make the optimizer after freezing layers."
            )
        super().build(variables)
        self.momentums, self.velocities = self.add_optimizer_variables(
            variables, ["momentum", "velocity"]
        )

    def apply(self, grads, trainable_variables=None):
        super().apply(reduce_gradients(grads), trainable_variables)

    def _get_current_learning_rate(self):
        """The schedule's rate of this update: Keras would count accumulated batches."""
        if isinstance(self._learning_rate, schedules.LearningRateSchedule):
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars  # TensorFlow's hook comes after clipping: `apply` did it

    def update_step(self, gradient, variable, learning_rate):
        i = self._get_variable_index(variable)
        m, v = self.momentums[i], self.velocities[i]
        gradient = ops.cast(gradient, variable.dtype)
        correction_1, correction_2 = self._bias_corrections(variable.dtype)
        self.assign(m, m + (gradient - m) * (1 - self.beta_1))
        self.assign(v, v + (ops.square(gradient) - v) * (1 - self.beta_2))
        update = m / correction_1 / (ops.sqrt(v / correction_2) + self.epsilon)
        update = update + self.weight_decays[i] * variable
        rate = ops.cast(learning_rate, variable.dtype) * self.multipliers[i]
        self.assign_sub(variable, rate * update)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if keras.config.backend() != "torch":
            super()._backend_update_step(grads, trainable_variables, learning_rate)
        else:
            self._update_all(grads, trainable_variables, learning_rate)

    def _update_all(self, grads, variables, learning_rate):
        """`update_step` of all variables at once: one by one PyTorch is slow."""
        import torch

        indices = [self._get_variable_index(v) for v in variables]
        m = [self.momentums[i].value.data for i in indices]
        v = [self.velocities[i].value.data for i in indices]
        variables = [variable.value.data for variable in variables]
        correction_1, correction_2 = self._bias_corrections("float32")
        torch._foreach_lerp_(m, grads, 1 - self.beta_1)
        torch._foreach_mul_(v, self.beta_2)
        torch._foreach_addcmul_(v, grads, grads, 1 - self.beta_2)
        denominators = torch._foreach_div(v, correction_2)
        torch._foreach_sqrt_(denominators)
        torch._foreach_add_(denominators, self.epsilon)
        updates = torch._foreach_div(m, correction_1)
        torch._foreach_div_(updates, denominators)
        decays = torch._foreach_mul(variables, [self.weight_decays[i] for i in indices])
        torch._foreach_add_(updates, decays)
        torch._foreach_mul_(updates, [self.multipliers[i] for i in indices])
        torch._foreach_mul_(updates, ops.convert_to_tensor(learning_rate, "float32"))
        torch._foreach_sub_(variables, updates)

    def _bias_corrections(self, dtype):
        """1 - beta^step of both moments; as a difference it would lose five digits."""
        step = ops.cast(self.iterations + 1, dtype)
        return (
            -ops.expm1(step * math.log(beta)) for beta in (self.beta_1, self.beta_2)
        )

    def get_config(self):
        config = super().get_config()
        del config["weight_decay"]
        return {
            **config,
            "multipliers": self.multipliers,
            "weight_decays": self.weight_decays,
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable(package="keras_lrseg")
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras's loss scaling; a step is left out on all devices or on none.

    Keras's looks at the gradients of one device: an overflow on another would go into
    the weights.
    """

    def check_finite(self, grads):
        return everywhere(super().check_finite(grads))
