"""A saved model in a fresh process, on this backend and on the others."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.helpers import images, run
from tests.tiny import filled, tiny_segmenter

PREDICT = """
import sys
import keras, numpy
import keras_lrseg

model, images, logits = sys.argv[1:]
model = keras.saving.load_model(model)
numpy.save(logits, model.predict(numpy.load(images), verbose=0))
print(keras.config.backend())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, images and its logits."""
    folder = tmp_path_factory.mktemp("saved")
    model = filled(tiny_segmenter, include_preprocessing=True)
    model.save(folder / "model.keras")
    x = 50 * images(0, 40, 56)
    np.save(folder / "images.npy", x)
    np.save(folder / "logits.npy", run(model, x))
    return folder


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_saved_model_gives_the_same_logits_elsewhere(folder, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    files = [folder / name for name in ("model.keras", "images.npy", f"{backend}.npy")]
    process = subprocess.run(
        [sys.executable, "-c", PREDICT, *files],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # as in conftest.py
        },
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split()[-1] == backend
    logits, expected = np.load(files[2]), np.load(folder / "logits.npy")
    same = backend == keras.config.backend()
    assert abs(logits - expected).max() <= (1e-5 if same else 1e-4) * expected.std()
