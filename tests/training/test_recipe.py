"""Recipes: their numbers, what a person may type, and the files under recipes/."""

import dataclasses
import pathlib

import pytest

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
        ("root", "/data/x", "/data/x"),
        ("root", "none", None),
        ("global_clipnorm", "none", None),
        ("global_clipnorm", "35", 35.0),
        ("short_side", "640", 640),
    ],
)
def test_settings_are_typed(key, text, value):
    changed = RECIPE.with_settings({key: text})
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
    ],
)
def test_wrong_settings_are_refused(key, text, message):
    with pytest.raises(ValueError, match=message):
        RECIPE.with_settings({key: text})


def test_rows_are_variants_of_the_base():
    rows = recipe_rows(
        RECIPE, "expected seed", ("OffSegT+offset", 1.0, 2), ("A/b", 0.0, 3)
    )
    assert list(rows) == ["OffSegT+offset", "A/b"]
    expected = dataclasses.replace(RECIPE, model="OffSegT", expected=1.0, seed=2)
    assert rows["OffSegT+offset"] == expected
    assert rows["A/b"].model == "A"


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
            if "/" in row or (name, row) == ("ade20k", "LRFormerL"):
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
    assert "a backbone trained on ImageNet-1K. Type --set backbone_weights=" in text
    assert "No such folder: /nowhere" in text
    assert f"{tmp_path / 'run' / 'model.keras'}: the trained model" in text
    assert not (tmp_path / "run").exists()


def test_plan_of_what_is_complete_misses_nothing(tmp_path):
    recipe = load_recipes(ROOT / "recipes" / "ade20k.py")["LRFormerT"]
    recipe = recipe.with_settings({"from_scratch": "yes"})
    for kind, suffix in (("images", "jpg"), ("annotations", "png")):
        folder = tmp_path / kind / "training"
        folder.mkdir(parents=True)
        (folder / f"a.{suffix}").touch()
    with pytest.warns(UserWarning, match="20210 are published"):
        text = plan(dataclasses.replace(recipe, root=str(tmp_path)), tmp_path / "run")
    assert text.endswith("missing\n  nothing")


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
