import keras
import numpy as np
import pytest
from keras import ops

from keras_lrseg.training import WarmupPolynomial


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 6e-11),  # 1e-6 of the peak
        (50, 3e-5),
        (99, 6e-5 * 0.99),
        (100, 6e-5),
        (550, 3e-5),
        (1000, 0),
        (5000, 0),
    ],
)
def test_rate_rises_to_the_peak_and_falls_to_zero(step, expected):
    rate = WarmupPolynomial(6e-5, steps=1000, warmup_steps=100)(step)
    assert float(rate) == pytest.approx(expected, rel=1e-4, abs=1e-15)


def test_power_bends_the_decay():
    rate = WarmupPolynomial(1.0, steps=100, warmup_steps=0, power=0.9)(60)
    assert float(rate) == pytest.approx(0.4**0.9, rel=1e-5)


def test_without_warmup_the_first_step_has_the_peak():
    assert float(WarmupPolynomial(0.5, steps=1, warmup_steps=0)(0)) == 0.5


@pytest.mark.parametrize("warmup_steps", [-1, 10, 11])
def test_warmup_must_end_before_the_training(warmup_steps):
    with pytest.raises(ValueError, match=f"warmup_steps={warmup_steps}, steps=10"):
        WarmupPolynomial(1.0, steps=10, warmup_steps=warmup_steps)


def test_config_round_trip():
    schedule = WarmupPolynomial(0.1, steps=20, warmup_steps=5, power=2.0)
    again = keras.optimizers.schedules.deserialize(
        keras.optimizers.schedules.serialize(schedule)
    )
    assert type(again) is WarmupPolynomial
    assert again.get_config() == schedule.get_config()
    assert float(again(13)) == float(schedule(13)) > 0


def test_compiled_optimizer_follows_the_schedule():
    """A constant gradient of 1 moves a weight by the sum of the rates."""
    images = keras.Input((1,))
    model = keras.Model(images, keras.layers.Dense(1, use_bias=False)(images))
    schedule = WarmupPolynomial(0.1, steps=4, warmup_steps=2)
    model.compile(keras.optimizers.SGD(schedule), loss=lambda y, x: ops.mean(x))
    before = model.get_weights()[0]
    ones = np.ones((4, 1), "float32")
    model.fit(ones, ones, batch_size=1, verbose=0)
    moved = before - model.get_weights()[0]
    np.testing.assert_allclose(moved, 0.1 * (1e-6 + 0.5 + 1 + 0.5), rtol=1e-4)
