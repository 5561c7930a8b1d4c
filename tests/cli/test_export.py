"""What `keras-lrseg export` refuses, most of it before the model is read."""

import keras
import pytest

from keras_lrseg import ImageClassifier, SegFormerB0
from keras_lrseg.export import export
from tests.cli.commands import call, succeed
from tests.helpers import fill
from tests.tiny import filled, tiny_backbone
from tests.training.toys import toy_segmenter

MISSING = "export {folder}/missing.keras --size 64 64"
ONNX = f"{MISSING} --to onnx --out {{folder}}/m.onnx"
SAVED_MODEL = f"{MISSING} --to saved_model --out {{folder}}/m"
TOY = "--images {toy}/val/images --masks {toy}/val/masks"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "file").write_text("in the way")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (f"{MISSING} --out {{folder}}/m.onnx", "must end in .tflite m.onnx"),
        (f"{MISSING} --to onnx --out {{folder}}/m.tflite", ".onnx m.tflite"),
        (f"{SAVED_MODEL}.tflite", "SavedModel folder m.tflite --to tflite"),
        (f"{SAVED_MODEL}.onnx", "SavedModel folder m.onnx --to onnx"),
        (f"{MISSING} --out {{folder}}/file/m.tflite", "/file is a file; m.tflite"),
        (f"{ONNX} --allow-any-operator", "--allow-any-operator tflite --to onnx"),
        (f"{SAVED_MODEL} --allow-any-operator", "--allow-any-operator saved_model"),
        (f"{ONNX} --precision float16", "--precision float16 --to onnx"),
        (f"{ONNX} {TOY} --calibration {{toy}}", "--calibration --images --to onnx"),
        (
            f"{MISSING} --out {{folder}}/m.tflite {TOY} --calibration {{toy}}",
            "--calibration --images --precision float32",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_the_model_is_read(
    command, words, folder, toy
):
    line = refusal(command.format(folder=folder, toy=toy))
    assert all(word in line for word in words.split()), line
    assert "missing.keras" not in line
    assert [path.name for path in folder.iterdir()] == ["file"]


def refusal(command):
    status, _, err = call(command)
    assert status == 2
    (line,) = err.splitlines()
    assert line.startswith("keras-lrseg export: ")
    return line


def test_model_of_fixed_size_says_which(folder, monkeypatch):
    SegFormerB0(5, input_shape=(64, 64, 3)).save(folder / "fixed.keras")
    monkeypatch.setattr(export, "convert", None)
    line = refusal(f"export {folder}/fixed.keras --size 32 64 --out {folder}/m.tflite")
    assert "takes 64×64" in line
    assert "--size 64 64" in line


def test_classifier_has_no_masks_to_score_and_no_map_to_enlarge(
    folder, toy, monkeypatch
):
    head = keras.layers.Conv2D(8, 1)
    model = filled(
        ImageClassifier, backbone=tiny_backbone(), num_classes=1000, head=head
    )
    model.save(folder / "classifier.keras")
    monkeypatch.setattr(export, "convert", None)
    command = f"export {folder}/classifier.keras --size 64 64 --out {folder}/m.tflite"
    for options, words in (
        (TOY.format(toy=toy), "--images, --masks"),
        ("--full-size", "full_size (--full-size)"),
    ):
        line = refusal(f"{command} {options}")
        assert "classifier" in line
        assert words in line


def test_onnx_file_is_compared_on_the_images_of_calibration(folder, toy):
    fill(toy_segmenter()).save(folder / "toy.keras")
    printed = succeed(
        f"export {folder}/toy.keras --size 64 64 --to onnx "
        f"--calibration {toy}/val/images --out {folder}/m.onnx"
    )
    assert "on 2 images" in printed
