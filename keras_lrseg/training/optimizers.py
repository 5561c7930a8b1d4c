"""The optimizer of both papers (section 4.1)."""

import keras

from keras_lrseg.training.schedule import WarmupPolynomial

# Parts of a variable's path that weight decay leaves alone: norms, biases and scales.
NO_DECAY = ("gamma", "beta", "bias", "scale", "attention_bias")


def make_optimizer(
    model,
    learning_rate: float,
    steps: int,
    warmup_steps: int = 1500,
    weight_decay: float = 0.01,
    global_clipnorm: float | None = None,
) -> keras.optimizers.Optimizer:
    """Return AdamW with warm-up and polynomial decay for a model.

    Norms, biases and layer scales do not decay (in the authors' code the decoder's do).

    Args:
        model: built, for the names of its variables.
        learning_rate: the peak; the papers' 6e-5 is for a pre-trained backbone.
        steps: of the whole training.
        warmup_steps: of the linear warm-up.
        weight_decay: decoupled decay per step, times the learning rate.
        global_clipnorm: largest norm of all gradients together; None: no clipping.
    """
    optimizer = keras.optimizers.AdamW(
        WarmupPolynomial(learning_rate, steps, warmup_steps),
        weight_decay=weight_decay,
        beta_1=0.9,
        beta_2=0.999,
        global_clipnorm=global_clipnorm,
    )
    optimizer.exclude_from_weight_decay(
        var_list=[v for v in model.trainable_variables if v.name in NO_DECAY]
    )
    return optimizer
