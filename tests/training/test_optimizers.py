import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_lrseg.layers import LRFormerBlock
from keras_lrseg.training import (
    SegmentationCrossEntropy,
    WarmupPolynomial,
    make_optimizer,
    restore_latest,
    save_state,
)
from keras_lrseg.training.optimizers import GroupedAdamW, LossScaleOptimizer
from tests.helpers import fill
from tests.training.toys import toy_dataset, toy_segmenter

KEPT = ("gamma", "beta", "bias", "scale")
RATE, STEPS = 0.05, 10
GROUPS = {"head_multiplier": 10.0, "backbone_multiplier": 0.5, "weight_decay": 0.1}


def grouped(model, **settings):
    return make_optimizer(model, RATE, STEPS, 0, **{**GROUPS, **settings})


def small_weights(model, seed=0):
    """Of an update's size, so that rounding of the sum does not hide the update."""
    rng = np.random.default_rng(seed)
    for weight in model.trainable_variables:
        weight.assign(0.1 * rng.standard_normal(weight.shape))


def gradients_of(model, count, seed=1):
    """A list of gradients, of very different sizes, for each of `count` batches."""
    rng = np.random.default_rng(seed)
    shapes = [tuple(v.shape) for v in model.trainable_variables]
    return [
        [
            (rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 2)).astype("float32")
            for shape in shapes
        ]
        for _ in range(count)
    ]


def torch_weights(model, batches, clipnorm=None, accumulation=1):
    """What torch.optim.AdamW with parameter groups makes of the model's weights."""
    torch = pytest.importorskip("torch")
    inside = {id(v) for v in model.backbone.trainable_variables}
    parameters, groups = [], []
    for variable in model.trainable_variables:
        value = torch.tensor(np.array(variable), dtype=torch.float64)
        parameters.append(torch.nn.Parameter(value))
        name = "backbone_multiplier" if id(variable) in inside else "head_multiplier"
        decay = 0.0 if variable.name in KEPT else GROUPS["weight_decay"]
        groups.append(
            {"params": parameters[-1:], "lr": 0.0, "weight_decay": decay, "name": name}
        )
    optimizer = torch.optim.AdamW(groups)
    for step, batch in enumerate(batches):
        for parameter, gradient in zip(parameters, batch, strict=True):
            gradient = torch.tensor(gradient.astype("float64")) / accumulation
            parameter.grad = gradient + (
                0 if parameter.grad is None else parameter.grad
            )
        if (step + 1) % accumulation:
            continue
        for group in optimizer.param_groups:
            rate = RATE * (1 - step // accumulation / STEPS)
            group["lr"] = rate * GROUPS[group["name"]]
        if clipnorm:
            torch.nn.utils.clip_grad_norm_(parameters, clipnorm)
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.detach().numpy() for parameter in parameters]


def run(model, optimizer, batches):
    """Apply gradients as `fit` does: compiled, and without state on JAX."""
    variables = model.trainable_variables
    optimizer.build(variables)
    batches = [[ops.convert_to_tensor(g) for g in batch] for batch in batches]
    if keras.config.backend() == "jax":
        import jax

        apply = jax.jit(optimizer.stateless_apply)
        state = [v.value for v in optimizer.variables]
        weights = [v.value for v in variables]
        for batch in batches:
            weights, state = apply(state, batch, weights)
        for variable, value in zip(
            [*variables, *optimizer.variables], [*weights, *state], strict=True
        ):
            variable.assign(value)
        return

    def apply(batch):
        optimizer.apply(batch, variables)

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        apply = tf.function(apply)
    for batch in batches:
        apply(batch)


def assert_same_update(model, before, expected):
    """To 1e-6 of the largest change of a variable."""
    variables = model.trainable_variables
    for variable, old, new in zip(variables, before, expected, strict=True):
        error = np.abs(np.array(ops.convert_to_numpy(variable), "float64") - new).max()
        assert error < 1e-6 * np.abs(new - old).max(), variable.path


def weights_of(model):
    return [np.array(ops.convert_to_numpy(v)) for v in model.trainable_variables]


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("clipnorm", [None, 0.5])
@pytest.mark.parametrize("scaled", [False, True])
def test_groups_step_as_those_of_pytorch(steps, clipnorm, scaled):
    model = toy_segmenter()
    small_weights(model)
    before = weights_of(model)
    batches = gradients_of(model, steps)
    expected = torch_weights(model, batches, clipnorm)
    optimizer = grouped(model, global_clipnorm=clipnorm)
    if scaled:
        optimizer = LossScaleOptimizer(optimizer)
        batches = [[2.0**15 * g for g in batch] for batch in batches]
    run(model, optimizer, batches)
    assert_same_update(model, before, expected)


@pytest.mark.parametrize("clipnorm", [None, 0.5])
def test_accumulated_gradients_step_as_their_mean_in_pytorch(clipnorm):
    model = toy_segmenter()
    small_weights(model)
    before = weights_of(model)
    batches = gradients_of(model, 6)
    expected = torch_weights(model, batches, clipnorm, accumulation=3)
    optimizer = grouped(model, global_clipnorm=clipnorm, accumulation_steps=3)
    run(model, optimizer, batches[:2])
    for old, new in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(old, new)  # no update before the third
    run(model, optimizer, batches[2:])
    assert_same_update(model, before, expected)


def test_accumulated_updates_have_the_rates_of_whole_batches():
    model = toy_segmenter()
    rates = []
    for parts in (None, 4):
        optimizer = make_optimizer(model, 0.1, 4, 0, accumulation_steps=parts)
        batches = gradients_of(model, 4 * (parts or 1))
        found = []
        for i, batch in enumerate(batches):
            if (i + 1) % (parts or 1) == 0:
                found.append(float(optimizer.learning_rate))
            run(model, optimizer, [batch])
        rates.append(found)
    assert rates[0] == pytest.approx([0.1, 0.075, 0.05, 0.025])
    assert rates[1] == pytest.approx(rates[0])


def test_overflow_halves_the_scale_and_leaves_the_weights_alone():
    model = toy_segmenter()
    optimizer = LossScaleOptimizer(grouped(model))
    before = weights_of(model)
    (batch,) = gradients_of(model, 1)
    batch[0][:] = np.inf
    run(model, optimizer, [batch])
    assert float(optimizer.dynamic_scale) == 2.0**14
    for old, new in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_weight_decay_shrinks_kernels_alone():
    """Without a gradient AdamW does nothing but decay."""
    images = keras.Input((8, 8, 4))
    model = fill(keras.Model(images, LRFormerBlock(2, 4, layer_scale=0.1)(images)))
    weights = model.trainable_variables
    optimizer = make_optimizer(model, 0.1, 10, warmup_steps=0, weight_decay=0.2)
    before = weights_of(model)
    optimizer.apply([ops.zeros(v.shape) for v in weights], weights)
    names = set()
    for weight, old in zip(weights, before, strict=True):
        factor = 1 if weight.name in KEPT else 1 - 0.1 * 0.2
        new = ops.convert_to_numpy(weight)
        np.testing.assert_allclose(new, factor * old, rtol=1e-6, err_msg=weight.path)
        names.add(weight.name)
    assert names == {*KEPT, "kernel"}


def dense_model():
    images = keras.Input((3,))
    return keras.Model(images, keras.layers.Dense(2)(images))


def test_power_bends_the_decay():
    optimizer = make_optimizer(dense_model(), 1.0, 10, warmup_steps=0, power=2.0)
    optimizer.iterations.assign(5)
    np.testing.assert_allclose(float(optimizer.learning_rate), 0.25, rtol=1e-6)


@pytest.mark.parametrize("name", ["head_multiplier", "backbone_multiplier"])
def test_multiplier_without_a_backbone_is_refused(name):
    with pytest.raises(ValueError, match="expect a model with `backbone`"):
        make_optimizer(dense_model(), 1e-3, 10, 0, **{name: 10.0})


def test_layers_frozen_too_late_are_an_error():
    model = toy_segmenter()
    optimizer = grouped(model)
    model.backbone.trainable = False
    with pytest.raises(ValueError, match="Make the optimizer after freezing layers"):
        optimizer.build(model.trainable_variables)


def test_frozen_backbone_leaves_the_head_its_rate():
    model = toy_segmenter()
    model.backbone.trainable = False
    optimizer = grouped(model)
    assert optimizer.multipliers == [10.0] * len(model.trainable_variables)


def test_settings_of_the_paper_reach_the_optimizer():
    model = toy_segmenter()
    optimizer = make_optimizer(model, 6e-5, 160_000, global_clipnorm=35.0)
    assert {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}.items() <= (
        optimizer.get_config().items()
    )
    config = optimizer.get_config()
    assert config["global_clipnorm"] == 35.0
    assert set(config["multipliers"]) == {1.0}
    assert set(config["weight_decays"]) == {0.0, 0.01}
    schedule = WarmupPolynomial(6e-5, 160_000, 1500).get_config()
    assert config["learning_rate"]["config"] == schedule


def test_config_makes_the_same_optimizer():
    optimizer = grouped(toy_segmenter(), global_clipnorm=2.0, accumulation_steps=4)
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)
    assert isinstance(again, GroupedAdamW)
    assert again.get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    "settings", [{"use_ema": True, "ema_overwrite_frequency": 2}, {"clipvalue": 0.1}]
)
def test_other_settings_of_keras_work(settings):
    model = toy_segmenter()
    small_weights(model)
    count = len(model.trainable_variables)
    optimizer = GroupedAdamW(RATE, [1.0] * count, [0.0] * count, **settings)
    run(model, optimizer, gradients_of(model, 1))
    once = weights_of(model)
    run(model, optimizer, gradients_of(model, 1))
    assert all(np.isfinite(w).all() for w in weights_of(model))
    assert not np.array_equal(once[0], weights_of(model)[0])


def batch():
    return map(np.stack, zip(*toy_dataset(2), strict=True))


def trained(policy, dropout_rate=0.2, **settings):
    keras.config.set_dtype_policy(policy)
    try:
        model = toy_segmenter(dropout_rate=dropout_rate)
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(grouped(model, **settings), SegmentationCrossEntropy())
    images, masks = batch()
    model.fit(images, masks, batch_size=1, epochs=2, shuffle=False, verbose=0)
    return model


CONTINUE = """
import sys
import keras
import numpy as np
import keras_lrseg.training
from tests.training.test_optimizers import batch

model = keras.saving.load_model(sys.argv[1])
images, masks = batch()
model.fit(images, masks, epochs=2, shuffle=False, verbose=0)
np.savez(sys.argv[2], *map(keras.ops.convert_to_numpy, model.trainable_variables))
"""


@pytest.mark.parametrize(
    "policy",
    [
        "mixed_float16",  # the one with two optimizers, one inside the other
        pytest.param("float32", marks=pytest.mark.slow),
        pytest.param("mixed_bfloat16", marks=pytest.mark.slow),
    ],
)
def test_fit_saved_and_loaded_elsewhere_goes_on_identically(policy, tmp_path):
    # Dropout's random state is no part of a model file.
    model = trained(policy, dropout_rate=0.0, global_clipnorm=1.0)
    scales = isinstance(model.optimizer, LossScaleOptimizer)
    assert scales == (policy == "mixed_float16")
    model.save(tmp_path / "model.keras")
    paths = [str(tmp_path / name) for name in ("model.keras", "weights.npz")]
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # as here
    subprocess.run(
        [sys.executable, "-c", CONTINUE, *paths], check=True, env=environment
    )
    images, masks = batch()
    model.fit(images, masks, epochs=2, shuffle=False, verbose=0)
    with np.load(paths[1]) as file:
        for variable, name in zip(model.trainable_variables, file.files, strict=True):
            new = ops.convert_to_numpy(variable)
            np.testing.assert_array_equal(file[name], new, variable.path)


def test_checkpoint_of_the_whole_state_goes_on_identically(tmp_path):
    model, other = trained("mixed_float16"), trained("mixed_float16")
    save_state(model, tmp_path / "step_00000004.npz", 4)
    images, masks = batch()
    model.fit(images, masks, shuffle=False, verbose=0)
    assert restore_latest(other, tmp_path) == 4
    other.fit(images, masks, shuffle=False, verbose=0)
    for one, two in zip(weights_of(model), weights_of(other), strict=True):
        np.testing.assert_array_equal(one, two)
