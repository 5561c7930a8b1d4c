import json
import os
import shlex
import signal
import subprocess
import sys
import time

import keras

from keras_lrseg import training
from keras_lrseg.checkpoints import load_model
from keras_lrseg.data import SegmentationDataset
from tests.cli.commands import ROOT, call, data_of, process, succeed


def test_json_is_all_that_is_on_stdout(run):
    result = process("profile", f"{run}/model.keras", "--size", "64", "64", "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["flops"] > 0


def test_backend_that_is_not_installed_is_named_with_the_command(tmp_path):
    backend = keras.config.backend()
    (tmp_path / f"{backend}.py").write_text(
        f"raise ModuleNotFoundError('No module named {backend}', name='{backend}')"
    )
    result = process(
        "profile", "LRFormerT", "--size", "64", "64", PYTHONPATH=str(tmp_path)
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"keras-lrseg profile: the backend '{backend}'")
    assert f"pip install 'keras-lrseg[{backend}]'" in line


INTERRUPTED = """
import sys
from keras_lrseg import cli, models
from tests.training.toys import toy_segmenter
models.SEGMENTERS["Toy"] = lambda num_classes, **_: toy_segmenter(num_classes)
sys.exit(cli.main(sys.argv[1:]))
"""


def test_ctrl_c_ends_a_training_and_says_how_to_go_on(toy, tmp_path):
    out = tmp_path / "run"
    command = f"train --model Toy {data_of(toy, 'train')} --crop 64 64 --batch 2 "
    command += f"--steps 1000000 --epoch-steps 5 --out {out}"
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *shlex.split(command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        # In the background Ctrl-C would be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    try:
        for _ in range(2000):
            if list(out.glob("checkpoints/step_*.npz")) or child.poll() is not None:
                break
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130
    assert "Traceback" not in err
    assert "Interrupted." in err.splitlines()[-1]
    assert "--resume" in err.splitlines()[-1]
    assert not (out / "model.keras").exists()


def test_interrupted_command_goes_on_with_resume(toy, tmp_path, monkeypatch):
    class Interrupting(training.Checkpoint):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            raise KeyboardInterrupt

    command = f"train --model Toy {data_of(toy, 'train')} --crop 64 64 --batch 2 "
    command += f"--steps 4 --epoch-steps 2 --out {tmp_path / 'run'}"
    with monkeypatch.context() as patch:
        patch.setattr(training.run, "Checkpoint", Interrupting)
        status, _, err = call(command)
    assert (status, "--resume" in err) == (130, True)
    assert "Resuming at step 2 of 4" in succeed(f"{command} --resume")
    assert "Resuming at step 4 of 4" in succeed(f"{command} --resume")
    dataset = SegmentationDataset.from_folders(
        toy / "train" / "images", toy / "train" / "masks", toy / "classes.txt"
    )
    assert (
        tuple(load_model(tmp_path / "run" / "model.keras").classes) == dataset.classes
    )
