"""The job of `make demo`, with two steps of training."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "size"), [("LRFormerT", 32), ("OffSegT", 64)])
def test_demo_leaves_its_results(model, size, tmp_path):
    pytest.importorskip("ai_edge_litert")
    command = [sys.executable, "recipes/demo.py", "--model", model, "--steps", "2"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "(constant 0.10)" in done.stdout.splitlines()[-1]
    written = {path.name for path in tmp_path.iterdir()}
    assert written > {"model.keras", "scores.json", "log.csv", "contact_sheet.png"}
    labels = np.asarray(Image.open(tmp_path / "tflite_labels.png"))
    assert labels.shape == (size, size)
