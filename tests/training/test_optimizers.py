import keras
import numpy as np
from keras import ops

from keras_lrseg.layers import LRFormerBlock
from keras_lrseg.training import WarmupPolynomial, make_optimizer
from tests.helpers import fill

KEPT = ("gamma", "beta", "bias", "scale")


def test_weight_decay_shrinks_kernels_alone():
    """Without a gradient AdamW does nothing but decay."""
    images = keras.Input((8, 8, 4))
    model = fill(keras.Model(images, LRFormerBlock(2, 4, layer_scale=0.1)(images)))
    weights = model.trainable_variables
    optimizer = make_optimizer(model, 0.1, 10, warmup_steps=0, weight_decay=0.2)
    before = [ops.convert_to_numpy(v).copy() for v in weights]
    optimizer.apply([ops.zeros(v.shape) for v in weights], weights)
    names = set()
    for weight, old in zip(weights, before, strict=True):
        factor = 1 if weight.name in KEPT else 1 - 0.1 * 0.2
        new = ops.convert_to_numpy(weight)
        np.testing.assert_allclose(new, factor * old, rtol=1e-6, err_msg=weight.path)
        names.add(weight.name)
    assert names == {*KEPT, "kernel"}


def test_first_step_moves_every_weight_by_the_schedules_rate():
    images = keras.Input((3,))
    model = keras.Model(images, keras.layers.Dense(2)(images))
    optimizer = make_optimizer(model, 0.1, 10, warmup_steps=5, weight_decay=0.0)
    before = model.get_weights()
    weights = model.trainable_variables
    for _ in range(2):  # the warm-up's first step has next to no rate
        optimizer.apply([ops.ones(v.shape) for v in weights], weights)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_allclose(old - new, 0.1 / 5, rtol=1e-3)


def test_settings_of_the_paper_and_clipping_reach_the_optimizer():
    images = keras.Input((3,))
    model = keras.Model(images, keras.layers.Dense(2)(images))
    optimizer = make_optimizer(model, 6e-5, 160_000, global_clipnorm=35.0)
    config = optimizer.get_config()
    expected = {"beta_1": 0.9, "beta_2": 0.999, "weight_decay": 0.01}
    assert expected.items() <= config.items()
    assert config["global_clipnorm"] == 35.0
    schedule = WarmupPolynomial(6e-5, 160_000, 1500).get_config()
    assert config["learning_rate"]["config"] == schedule
