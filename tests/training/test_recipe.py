"""Recipes: their numbers, what a person may type, and the files under recipes/."""

import ast
import dataclasses
import math
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from keras_lrseg import models
from keras_lrseg.data import DATASETS
from keras_lrseg.training import (
    ClassificationRecipe,
    SegmentationRecipe,
    WarmupCosine,
    load_recipes,
    plan,
    recipe_rows,
)
from tests.training import toys

ROOT = pathlib.Path(__file__).parents[2]
FILES = sorted(p for p in (ROOT / "recipes").glob("*.py") if p.name != "demo.py")
RECIPE = SegmentationRecipe(
    model="LRFormerT", crop=(64, 96), batch_size=4, steps=100, learning_rate=1e-3
)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("steps", "7", 7),
        ("learning_rate", "6e-5", 6e-5),
        ("from_scratch", "yes", True),
        ("photometric", "no", False),
        ("crop", "480,512", (480, 512)),
        ("scale", "0.5,1.5", (0.5, 1.5)),
        ("images", "/data/x", "/data/x"),
        ("images", "none", None),
        ("global_clipnorm", "none", None),
        ("global_clipnorm", "35", 35.0),
        ("short_side", "640", 640),
    ],
)
def test_settings_are_typed(key, text, value):
    changed = dataclasses.replace(RECIPE, **RECIPE.parse({key: text}))
    assert getattr(changed, key) == value
    assert type(getattr(changed, key)) is type(value)
    assert dataclasses.replace(changed, **{key: getattr(RECIPE, key)}) == RECIPE


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("stepz", "7", "no setting 'stepz'. Choose from .*learning_rate"),
        ("test", "7", "no setting 'test'"),
        ("steps", "7.5", "steps expects a whole number. Received: '7.5'"),
        ("steps", "none", "steps expects a whole number. Received: 'none'"),
        ("learning_rate", "fast", "learning_rate expects a number. Received: 'fast'"),
        ("from_scratch", "true", "from_scratch expects yes or no. Received: 'true'"),
        ("crop", "512", "crop expects two numbers, such as 512,512. Received: '512'"),
        ("short_side", "x", "short_side expects a whole number or none. Received: 'x'"),
        ("precision", "float8", "precision expects float32 or .* Received: 'float8'"),
        ("schedule", "step", "schedule expects polynomial or cosine"),
        ("jit_compile", "true", "jit_compile expects auto or yes or no"),
        ("batch_size", "0", "batch_size expects 1 or more. Received: 0"),
        ("accumulation_steps", "3", "batch of 4 .* accumulation_steps=3 equal parts"),
        ("warmup_steps", "100", "0 <= warmup_steps < steps"),
        ("crop", "16,64", "crop expects at least 32 pixels"),
        ("learning_rate", "-1", "learning_rate expects a number above 0"),
        ("learning_rate", "nan", "learning_rate expects a number above 0"),
        ("head_multiplier", "-3", "head_multiplier expects 0 or more"),
        ("global_clipnorm", "0", "global_clipnorm expects a number above 0"),
        ("dropout_rate", "1", "dropout_rate expects 0 or more and less than 1"),
        ("seed", "99999999999", "seed expects 0 or more and less than 4294967296"),
        ("max_class_share", "2", "Expected max_class_share in 0..1"),
        ("scale", "2,0.5", "Expected scale"),
        ("scale", "0.5,inf", "Expected scale"),
        ("short_side", "99999", "Expected short_side in 1..16384"),
        ("model", "OffSegT", "no setting 'model'"),
        ("weights", "", "weights expects a word or none"),
    ],
)
def test_wrong_settings_are_refused(key, text, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RECIPE, **RECIPE.parse({key: text}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", 16),
        ("test_size", 16),
        ("pool_size", 0),
        ("pool_size", -3),
        ("label_smoothing", 5.0),
        ("magnitude", 50.0),
        ("crop_scale", (0.0, 3.0)),
        ("mixup", math.nan),
        ("erasing", 7.0),
        ("batch_size", 3),
        ("accumulation_steps", 4),
    ],
)
def test_wrong_settings_of_a_classifier_are_refused(key, value):
    settings = {"batch_size": 4, "steps": 2, "learning_rate": 1e-3, key: value}
    words = {"accumulation_steps": "batch_size", "crop_scale": "scale"}.get(key, key)
    with pytest.raises(ValueError, match=words):
        ClassificationRecipe(**settings)


def test_model_of_the_other_task_is_refused():
    classifier = dataclasses.replace(RECIPE, model="LRFormerTClassifier")
    with pytest.raises(ValueError, match=r"no model 'LRFormerTCl.*OffSegT"):
        classifier.build(3)


def test_rows_are_variants_of_the_base():
    rows = recipe_rows(
        RECIPE, "expected seed", ("OffSegT+offset", 1.0, 2), ("A/b", 0.0, 3)
    )
    assert list(rows) == ["OffSegT+offset", "A/b"]
    expected = dataclasses.replace(RECIPE, model="OffSegT", expected=1.0, seed=2)
    assert rows["OffSegT+offset"] == expected
    assert rows["A/b"].model == "A"


@pytest.mark.parametrize(
    "name", ["ade20k", "cityscapes", "coco_stuff", "pascal_context"]
)
def test_rows_expect_what_the_table_of_their_page_says(name):
    path = ROOT / "recipes" / f"{name}.py"
    page = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    figures = r" +[\d.]+ M +(?:[\d.]+ G +)?([\d.]+)"
    table = {}
    for model, score, with_offset in re.findall(
        rf"([A-Z][\w/]+){figures}(?:{figures})?", page
    ):
        table[model] = float(score)
        if with_offset:
            table[f"{model}+offset"] = float(with_offset)
    assert len(table) >= 6
    recipes = load_recipes(path)
    assert {model: recipes[model].expected for model in table} == table


def test_short_run_warms_up_for_a_tenth():
    assert RECIPE.warmup == 10
    assert dataclasses.replace(RECIPE, steps=160_000).warmup == 1500
    assert dataclasses.replace(RECIPE, warmup_steps=3).warmup == 3


def test_cosine_falls_from_the_peak_to_0():
    schedule = WarmupCosine(2.0, 110, warmup_steps=10)
    values = [float(schedule(step)) for step in (0, 5, 10, 60, 110)]
    assert values == pytest.approx([2e-6, 1.0, 2.0, 1.0, 0.0], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_row_is_of_a_model_that_there_is(path):
    known = {**models.SEGMENTERS, **models.CLASSIFIERS}
    for name, recipe in load_recipes(path).items():
        assert recipe.model in known, name
        is_classifier = recipe.model in models.CLASSIFIERS
        assert isinstance(recipe, ClassificationRecipe) == is_classifier
        if "+offset" in name:
            assert recipe.classifier == "offset"
        elif recipe.dataset in DATASETS and recipe.model.startswith("Seg"):
            assert recipe.classifier == "pixel"


def test_recipes_hold_the_papers_numbers():
    paper = {
        "ade20k": (16, 160_000, (512, 512)),
        "coco_stuff": (16, 80_000, (512, 512)),
        "cityscapes": (8, 160_000, (1024, 1024)),
        "pascal_context": (16, 80_000, (480, 480)),
    }
    for name, (batch, steps, crop) in paper.items():
        for row, recipe in load_recipes(ROOT / "recipes" / f"{name}.py").items():
            of_masks = "Plus" in row or row.startswith("Mask2Former")
            if "/" in row or of_masks or (name, row) == ("ade20k", "LRFormerL"):
                continue
            assert recipe.dataset == name
            assert (recipe.batch_size, recipe.steps, recipe.crop) == (
                batch,
                steps,
                crop,
            )
            assert (recipe.learning_rate, recipe.weight_decay) == (6e-5, 0.01)
            assert (recipe.head_multiplier, recipe.warmup) == (10.0, 1500)
            clipped = row.startswith("LRFormer")
            assert recipe.global_clipnorm == (35.0 if clipped else None)
    ade20k = load_recipes(ROOT / "recipes" / "ade20k.py")
    assert ade20k["LRFormerL"].crop == (640, 640)
    assert ade20k["LRFormerS/ablation"].steps == 80_000
    rates = [ade20k[f"LRFormer{v}"].drop_path_rate for v in "TSBL"]
    assert rates == [0.1, 0.2, 0.4, 0.6]
    tiny, large = ade20k["LRFormerTPlus"], ade20k["Mask2FormerSwinL+offset"]
    for recipe, crop in ((tiny, 512), (large, 640)):
        assert recipe.crop == (crop, crop)
        assert recipe.test.short_side == recipe.short_side == crop
        assert (recipe.batch_size, recipe.steps) == (16, 160_000)
        assert (recipe.learning_rate, recipe.weight_decay) == (1e-4, 0.05)
        assert (recipe.power, recipe.warmup, recipe.global_clipnorm) == (0.9, 0, 0.01)
        assert (recipe.backbone_multiplier, recipe.head_multiplier) == (0.1, 1.0)
    rates = [ade20k[f"LRFormer{v}Plus"].drop_path_rate for v in ("T", "S", "B", "XL")]
    assert rates == [0.2, 0.3, 0.4, 0.4]
    imagenet = load_recipes(ROOT / "recipes" / "imagenet1k.py")["LRFormerSClassifier"]
    assert (imagenet.batch_size, imagenet.learning_rate) == (1024, 1e-3)
    assert imagenet.steps * imagenet.batch_size / 1_281_167 == pytest.approx(
        300, abs=0.1
    )
    tuning = load_recipes(ROOT / "recipes" / "imagenet22k.py")
    tuning = tuning["LRFormerLClassifier/1k-384"]
    assert (tuning.batch_size, tuning.learning_rate, tuning.size) == (512, 5e-5, 384)


def test_plan_needs_neither_data_nor_weights(tmp_path):
    recipe = load_recipes(ROOT / "recipes" / "ade20k.py")["LRFormerT"]
    text = plan(dataclasses.replace(recipe, root="/nowhere"), tmp_path / "run")
    assert "parameters           13.265 M" in text
    assert "FLOPs of an image    16.5" in text
    assert "weights trained on ImageNet-1K. Type --set backbone_weights=" in text
    assert "No such folder: /nowhere" in text
    assert f"{tmp_path / 'run' / 'model.keras'}: the trained model" in text
    assert not (tmp_path / "run").exists()


def test_plan_is_that_of_the_devices(tmp_path):
    recipe = dataclasses.replace(RECIPE, dataset="ade20k", root="/nowhere")
    text = plan(recipe, tmp_path, distribution="horovod")
    assert "GiB on one device" in text
    assert "distribution expects one of none, data, model" in text.partition("miss")[2]


def test_plan_of_masks_counts_their_decoders(tmp_path):
    recipe = load_recipes(ROOT / "recipes" / "ade20k.py")["LRFormerTPlus"]
    text = plan(dataclasses.replace(recipe, root="/nowhere"), tmp_path / "run")
    assert re.search(r"parameters +3[01]\.\d+ M", text)
    assert "global_clipnorm      0.01" in text


def test_plan_of_what_is_complete_misses_nothing(tmp_path):
    recipe = load_recipes(ROOT / "recipes" / "ade20k.py")["LRFormerT"]
    recipe = dataclasses.replace(recipe, from_scratch=True)
    for kind, suffix in (("images", "jpg"), ("annotations", "png")):
        for split in ("training", "validation"):
            folder = tmp_path / kind / split
            folder.mkdir(parents=True)
            (folder / f"a.{suffix}").touch()
    with pytest.warns(UserWarning, match="are published"):
        text = plan(dataclasses.replace(recipe, root=str(tmp_path)), tmp_path / "run")
    assert text.endswith("missing\n  nothing")


def test_plan_says_which_weights_and_classes_are_not_there(tmp_path):
    recipe = load_recipes(ROOT / "recipes" / "own_folder.py")["LRFormerT"]
    settings = {"backbone_weights": "/no.pth", "classes": "/no.txt"}
    folders = {"images": str(tmp_path), "masks": str(tmp_path)}
    text = plan(dataclasses.replace(recipe, **settings, **folders), tmp_path / "run")
    assert "There is no file of weights /no.pth" in text
    assert "with 150 classes: the data's are not known" in text
    assert "reset_head" not in text.partition("missing")[2]
    (tmp_path / "classes.txt").write_text("a\nb #102030\n")
    recipe = dataclasses.replace(recipe, classes=str(tmp_path / "classes.txt"))
    assert recipe.num_classes() == 2


def test_plan_counts_the_classes_of_the_masks_and_says_that_a_folder_is_taken(tmp_path):
    toys.toy_folders(tmp_path)
    recipe = load_recipes(ROOT / "recipes" / "own_folder.py")["LRFormerT/scratch"]
    settings = {"images": str(tmp_path / "images"), "masks": str(tmp_path / "masks")}
    recipe = dataclasses.replace(recipe, **settings)
    assert "not known" not in plan(recipe, tmp_path / "run")
    (tmp_path / "run.json").touch()
    assert "already holds a run" in plan(recipe, tmp_path).partition("missing")[2]


@pytest.mark.parametrize(
    ("row", "words", "absent"),
    [
        ("LRFormerT", "recipes/imagenet1k.py", "imagenet22k"),
        ("LRFormerXLPlus", "recipes/imagenet22k.py", "imagenet1k"),
        ("OffSegT", "published checkpoint)", "imagenet1k.py"),
    ],
)
def test_remedy_for_missing_weights_can_be_followed(row, words, absent):
    (text,) = load_recipes(ROOT / "recipes" / "ade20k.py")[row].missing_weights()
    assert words in text
    assert absent not in text


def test_new_head_without_a_model_is_refused():
    (text,) = dataclasses.replace(RECIPE, reset_head=True).missing_weights()
    assert "--reset-head" in text


def test_other_number_of_class_folders_than_published_warns(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "a.png").touch()
    recipe = load_recipes(ROOT / "recipes" / "imagenet1k.py")["LRFormerTClassifier"]
    with pytest.warns(UserWarning, match="Found 2 folders.*imagenet1k has 1000"):
        dataclasses.replace(recipe, root=str(tmp_path)).load("train")


def test_fine_tuning_asks_for_the_whole_model():
    recipe = load_recipes(ROOT / "recipes" / "imagenet22k.py")
    (text,) = recipe["LRFormerLClassifier/1k"].missing_weights()
    assert "weights trained on ImageNet-22K. Type --set weights=FILE" in text


def test_validation_has_the_classes_of_the_training(tmp_path):
    for split, labels in (("train", (0, 3)), ("val", (0, 2))):
        toys.toy_folders(tmp_path / split, count=2)
        for i, label in enumerate(labels):
            mask = np.full((72, 88), label, "uint8")
            Image.fromarray(mask).save(tmp_path / split / "masks" / f"{i}.png")
    recipe = dataclasses.replace(
        RECIPE,
        dataset="folders",
        images=str(tmp_path / "train" / "images"),
        masks=str(tmp_path / "train" / "masks"),
        val_images=str(tmp_path / "val" / "images"),
        val_masks=str(tmp_path / "val" / "masks"),
    )
    train = recipe.load("train")
    assert recipe.load("validation", train).classes == train.classes
    assert train.num_classes == 4


def test_classifier_without_validation_folder_trains_without(tmp_path):
    for name in ("cat", "dog"):
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True)
        Image.fromarray(np.zeros((40, 40, 3), "uint8")).save(folder / "a.png")
    recipe = ClassificationRecipe(
        root=str(tmp_path), batch_size=2, steps=2, learning_rate=1e-3
    )
    train = recipe.load("train")
    assert train.classes == ("cat", "dog")
    assert recipe.load("validation", train) is None


def test_memory_is_less_in_half_precision_and_in_parts(tmp_path):
    def gibibytes(**settings):
        text = plan(dataclasses.replace(RECIPE, **settings), tmp_path)
        return float(text.partition("about ")[2].partition(" GiB")[0])

    full = gibibytes(crop=(512, 512))
    assert gibibytes(crop=(512, 512), precision="mixed_bfloat16") < 0.6 * full
    assert gibibytes(crop=(512, 512), accumulation_steps=2) < 0.6 * full


def test_file_without_recipes_is_refused(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match="defines no RECIPES"):
        load_recipes(tmp_path / "a.py")
    with pytest.raises(FileNotFoundError, match="no recipe"):
        load_recipes(tmp_path / "b.py")
