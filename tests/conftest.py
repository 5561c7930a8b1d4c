"""Runs before Keras is imported: quiet, reproducible, and quick to compile."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest

pytest.register_assert_rewrite("tests.checks", "tests.helpers", "tests.reference")

if keras.config.backend() == "jax":
    import jax

    # Tests compile much and compute little: half the time goes to XLA's optimiser.
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)
