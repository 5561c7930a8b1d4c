"""Matrix factorisation and Hamburger against the authors' numbers and equations."""

import zlib

import keras
import numpy as np
import pytest
from keras import ops

from keras_lrseg.checkpoints import segnext
from keras_lrseg.layers import Hamburger, NonNegativeFactorization
from tests.helpers import fill, loss_and_gradients, normal, numpy, run
from tests.reference import assert_offseg, load_layer, offseg_inputs, offseg_state


def give_authors_bases(layer):
    """Start from the bases that the golden numbers were computed with."""
    channels, rank = layer.bases.shape[::-1]
    seed = zlib.crc32(f"nmf_bases.{channels}x{rank}".encode())
    bases = np.random.default_rng(seed).random((channels, rank)).astype("float32")
    layer.bases = (bases / np.linalg.norm(bases, axis=0)).T


def test_factorization_is_the_authors():
    x = offseg_inputs("nmf2d")["x"]
    layer = NonNegativeFactorization()
    layer.build(x.shape)
    give_authors_bases(layer)
    assert_offseg(run(layer, x), "nmf2d/out")


def test_hamburger_is_the_authors():
    x = offseg_inputs("hamburger")["x"]
    state = offseg_state("hamburger")
    layer = load_layer(Hamburger(), x.shape, "", state, segnext.DECODER)
    give_authors_bases(layer.factorization)
    assert_offseg(run(layer, x), "hamburger/out")


X = abs(normal("pixels", (2, 5, 6, 8)))


def plain(x, bases, steps):
    """The multiplicative updates as they are written, in float64."""
    pixels = x.astype("float64").reshape(len(x), -1, x.shape[-1])  # (B, N, C)
    b = np.broadcast_to(bases, (len(x), *bases.shape[-2:])).astype("float64")
    a = np.exp(pixels @ b.transpose(0, 2, 1))
    a = a / a.sum(-1, keepdims=True)
    for _ in range(steps):
        a = updated_coefficients(a, pixels, b)
        t = a.transpose(0, 2, 1)
        b = b * (t @ pixels) / (t @ a @ b + 1e-6)
    return (updated_coefficients(a, pixels, b) @ b).reshape(x.shape)


def updated_coefficients(a, pixels, b):
    t = b.transpose(0, 2, 1)
    return a * (pixels @ t) / (a @ (b @ t) + 1e-6)


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_steps_are_the_equations(steps):
    layer = NonNegativeFactorization(rank=3, steps=steps)
    y = run(layer, X)
    np.testing.assert_allclose(y, plain(X, layer.bases, steps), rtol=1e-4)


def test_steps_approach_the_map():
    errors = []
    for steps in (0, 2, 20):
        y = run(NonNegativeFactorization(rank=8, steps=steps), X)
        errors.append(np.mean((y - X) ** 2))
    assert errors[0] > 1.5 * errors[1] > 3 * errors[2] > 0


def test_negative_values_count_as_zero():
    layer = NonNegativeFactorization(rank=3)
    x = normal("signed", X.shape)
    np.testing.assert_array_equal(run(layer, x), run(layer, np.maximum(x, 0)))


def test_map_of_zeros_stays_finite():
    assert not run(NonNegativeFactorization(rank=3), np.zeros_like(X)).any()


def test_inference_repeats_and_depends_on_the_seed_alone():
    """The same numbers on every backend: NumPy draws the bases."""
    layer = NonNegativeFactorization(rank=2, seed=7)
    y = run(layer, X)
    np.testing.assert_array_equal(run(layer, X), y)
    np.testing.assert_array_equal(run(NonNegativeFactorization(2, seed=7), X), y)
    assert abs(run(NonNegativeFactorization(2, seed=8), X) - y).max() > 1e-3
    np.testing.assert_allclose(
        layer.bases[:, :3],
        [[0.45896831, 0.30362737, 0.33232644], [0.03382894, 0.18285649, 0.173658]],
        rtol=1e-5,
    )


def test_training_starts_from_new_bases_for_every_image_and_step():
    layer = NonNegativeFactorization(rank=2, seed=1)
    x = np.concatenate([X[:1], X[:1]])
    first, second = (numpy(layer(ops.array(x), training=True)) for _ in range(2))
    assert abs(first - second).max() > 1e-3
    assert abs(first[0] - first[1]).max() > 1e-3
    # As near to the map as from the fixed ones.
    still = run(layer, x)
    assert np.mean((first - x) ** 2) < 1.5 * np.mean((still - x) ** 2)


def test_training_takes_its_own_number_of_steps(monkeypatch):
    layer = NonNegativeFactorization(rank=3, train_steps=2, steps=5)
    layer.build(X.shape)
    bases = abs(normal("bases", (2, 3, 8)))
    monkeypatch.setattr(layer, "_random_bases", lambda *_: ops.array(bases))
    y = numpy(layer(ops.array(X), training=True))
    np.testing.assert_allclose(y, plain(X, bases, 2), rtol=1e-4)


def test_gradient_flows_through_every_step():
    """As in the authors' code; Hamburger's authors let it through the last one only."""
    images = keras.Input((None, None, 8))
    dense = keras.layers.Dense(8, use_bias=False)
    layer = NonNegativeFactorization(rank=3, steps=4)
    model = fill(keras.Model(images, layer(dense(images))))
    kernel = abs(numpy(dense.kernel))
    dense.kernel.assign(kernel)
    factors = normal("factors", X.shape)

    def loss(kernel):
        return np.mean(factors * plain(X @ kernel, layer.bases, 4))

    _, (gradient,) = loss_and_gradients(
        model, lambda y: ops.mean(y * ops.array(factors)), X
    )
    direction = normal("direction", kernel.shape)
    h = 1e-5
    kernel = kernel.astype("float64")
    slope = (loss(kernel + h * direction) - loss(kernel - h * direction)) / (2 * h)
    assert np.sum(gradient * direction) == pytest.approx(slope, rel=1e-3)


def test_products_are_counted_as_they_are_made():
    layer = NonNegativeFactorization(rank=16)
    n, c, r = 8 * 12, 64, 16
    update = n * r * c + n * r * r + r * r * c
    # Seven steps update both factors and the last coefficients; then A · B.
    assert layer.attention_flops((1, 8, 12, c)) == 15 * update + n * r * c
    again = layer.published_flops((1, 8, 12, c)) - layer.attention_flops((1, 8, 12, c))
    assert again == n * r * c
