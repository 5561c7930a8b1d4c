"""One job, from training to the phone."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_lrseg import analysis, models
from keras_lrseg.checkpoints import load_model
from keras_lrseg.evaluation import Scores, confusion_matrix
from keras_lrseg.export import Artifact
from keras_lrseg.layers import OffsetLearning
from tests.cli.commands import call, data_of, files_in, log_of, save_torch, succeed
from tests.reference import torch_state, torch_variables
from tests.training.toys import COLOURS, toy_dataset, toy_folders, toy_segmenter


@pytest.mark.parametrize(
    "backend",
    [
        "tensorflow",
        "torch",
        pytest.param("jax", marks=pytest.mark.slow),  # compiles for a minute
    ],
)
def test_lrformer_learns_a_trivial_task(backend, toy, tmp_path):
    if keras.config.backend() != backend:
        pytest.skip("runs on another backend")
    succeed(
        f"train --model LRFormerT {data_of(toy, 'train')} --crop 64 64 --batch 2 "
        f"--steps 30 --epoch-steps 10 --learning-rate 5e-3 --out {tmp_path}"
    )
    losses = [float(row["loss"]) for row in log_of(tmp_path)]
    assert len(losses) == 3
    assert losses[-1] < 0.7 * losses[0]


def test_train_warns_of_a_class_without_pixels(toy, tmp_path):
    toy_folders(tmp_path / "train")
    (tmp_path / "classes.txt").write_text("red\ngreen\nblue\nyellow")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")  # ends it before the first step
    command = f"train --model LRFormerT {data_of(tmp_path, 'train')} --steps 1"
    command += f" --resume --out {tmp_path}/run"
    _, out, _ = call(command)
    assert f"nothing of class 'yellow' in {tmp_path}/train/images" in out
    assert "'blue'" not in out


@pytest.fixture(scope="module")
def scores(toy, run):
    """What `evaluate` wrote about the two images of the validation."""
    path = toy / "new" / "scores.json"
    printed = succeed(f"evaluate {run}/model.keras {data_of(toy, 'val')} --json {path}")
    result = json.loads(path.read_text())
    assert f"mIoU {result['miou']:.4f}" in printed
    assert files_in(path.parent) == ["scores.json"]
    return result


@pytest.fixture(scope="module")
def labels(toy, run):
    """The folder where `predict` wrote labels and overlays of the same images."""
    out, images = toy / "labels", [toy / "val" / "images" / f"{i}.png" for i in (0, 1)]
    printed = succeed(
        f"predict {run}/model.keras {images[0]} {images[1]} --opacity 0.25 --out {out}"
    )
    names = [f"{i}{kind}.png" for i in (0, 1) for kind in ("", "_overlay")]
    assert files_in(out) == sorted(names)
    assert printed.split() == [str(out / name) for name in names]
    return out


def test_evaluated_scores_are_those_of_the_predicted_labels(scores, labels):
    confusion = sum(
        confusion_matrix(mask, np.asarray(Image.open(labels / f"{i}.png")), 3)
        for i, (_, mask) in enumerate(toy_dataset(2, seed=1))
    )
    expected = Scores(confusion, ("red", "green", "blue"))
    assert json.loads(expected.to_json()).items() <= scores.items()


def test_evaluated_score_is_the_last_one_of_the_training(scores, run):
    assert float(log_of(run)[-1]["val_miou"]) == pytest.approx(scores["miou"], abs=1e-6)
    assert scores["miou"] > 0.7


def test_predict_paints_labels_and_overlay_in_the_classes_colours(labels):
    for i, (image, _) in enumerate(toy_dataset(2, seed=1)):
        mask = Image.open(labels / f"{i}.png")
        assert mask.getpalette()[:9] == COLOURS.ravel().tolist()
        overlay = np.asarray(Image.open(labels / f"{i}_overlay.png")).astype(float)
        mixed = 0.75 * image + 0.25 * COLOURS[np.asarray(mask)]
        assert abs(overlay - mixed).max() <= 1


def test_export_writes_a_file_that_gives_the_predicted_labels(toy, run, labels):
    path = toy / "phone" / "model.tflite"
    printed = succeed(
        f"export {run}/model.keras --to tflite --size 72 88 --output labels "
        f"--out {path}"
    )
    assert printed.startswith(f"{path}: ")
    assert "of the labels are the model's" in printed
    with Artifact(path) as artifact:
        result = artifact.run(toy_dataset(2, seed=1)[0][0])
    assert result.shape == (18, 22)
    # The file answers at stride 4: compare with the middle of each cell.
    large = np.asarray(Image.open(labels / "0.png"))
    assert (result == large[2::4, 2::4]).mean() > 0.9


def test_profile_prints_a_table_or_one_json_object(run):
    expected = analysis.profile(load_model(run / "model.keras"), (64, 96))
    command = f"profile {run}/model.keras --size 64 96"
    assert succeed(f"{command} --json") == expected.to_json() + "\n"
    assert succeed(command) == f"{expected}\n"


def test_profile_takes_a_models_name_and_its_number_of_classes(toy):
    command = "profile Toy --size 64 64 --json"
    three = json.loads(succeed(f"{command} --num-classes 3"))
    four = json.loads(succeed(f"{command} --num-classes 4"))
    assert four["params"] - three["params"] == 8 + 1


def test_classifier_is_the_models_own_unless_one_is_given(monkeypatch):
    given = []

    def make(num_classes, **settings):
        given.append(settings)
        return toy_segmenter(num_classes)

    monkeypatch.setitem(models.SEGMENTERS, "Own", make)
    for option in ("", "--classifier pixel", "--classifier offset"):
        succeed(f"profile Own --size 64 64 {option}")
    assert given == [{}, {"classifier": "pixel"}, {"classifier": "offset"}]


def test_train_takes_a_classifier_and_resumes_with_the_same_one_only(toy, tmp_path):
    out = tmp_path / "run"
    command = f"train --model Toy {data_of(toy, 'train')} --crop 64 64 --batch 2 "
    command += f"--steps 2 --epoch-steps 2 --out {out}"
    succeed(f"{command} --classifier offset")
    assert isinstance(load_model(out / "model.keras").classifier, OffsetLearning)
    for other in ("--classifier pixel", ""):
        status, _, err = call(f"{command} --resume {other}")
        assert (status, "other settings: classifier (was 'OffsetL" in err) == (2, True)
    assert "step 2 of 2" in succeed(f"{command} --resume --classifier offset")


def test_mine_prints_a_table_and_writes_it_with_two_pictures(toy, run, scores):
    out = toy / "mined"
    printed = succeed(f"mine {run}/model.keras {data_of(toy, 'val')} --out {out}")
    assert files_in(out) == ["maps.png", "mined.json", "similarity.png"]
    mined = json.loads((out / "mined.json").read_text())
    assert mined["own"].items() <= scores.items()
    assert mined["mined"]["miou"] >= scores["miou"]
    assert list(mined["classes"]) == ["red", "green", "blue"]
    assert f"mined: mIoU {mined['mined']['miou']:.4f}" in printed
    sizes = [Image.open(out / name).size for name in ("similarity.png", "maps.png")]
    assert sizes == [(3 * 160 + 12, 186), (4 * 224 + 18, 3 * (20 + 183 + 6))]


def test_convert_keeps_every_weight_of_a_published_checkpoint(tmp_path):
    state = torch_state("lrformer_tiny_test")
    save_torch(tmp_path / "t.pth", state)
    path = tmp_path / "new" / "t.keras"
    printed = succeed(f"convert LRFormerT {tmp_path}/t.pth {path}")
    assert printed == f"{path}: LRFormerT with 7 classes\n"
    model = load_model(path)
    for key, variable in torch_variables(model).items():
        values = keras.ops.convert_to_numpy(variable)
        assert np.isclose(values.sum(), state[key].sum(), atol=1e-3), key
        np.testing.assert_array_equal(np.sort(values, None), np.sort(state[key], None))


def test_convert_for_other_classes_keeps_all_but_the_head(tmp_path):
    state = torch_state("lrformer_tiny_test")
    save_torch(tmp_path / "t.pth", state)
    succeed(
        f"convert LRFormerT {tmp_path}/t.pth {tmp_path}/t.keras --num-classes 3 "
        "--reset-head"
    )
    model = load_model(tmp_path / "t.keras")
    assert model.num_classes == 3
    variables = torch_variables(model)
    key = "backbone.block1.0.attn.q.0.weight"
    values = keras.ops.convert_to_numpy(variables[key])
    np.testing.assert_array_equal(values, state[key].reshape(values.shape).T)
