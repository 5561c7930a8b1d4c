import importlib
import inspect
import pathlib
import pkgutil
import subprocess
import sys
import tomllib

import keras
import pytest
from keras.src.saving.object_registration import GLOBAL_CUSTOM_OBJECTS

import keras_lrseg

ROOT = pathlib.Path(__file__).parents[1]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(keras_lrseg.__path__, "keras_lrseg.")
    if not module.name.endswith("__main__")
)
OTHERS = {"tensorflow", "jax", "torch", "PIL", "sklearn", "transformers"} - {
    keras.config.backend()
}


def modules_after(statement):
    code = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return set(run.stdout.decode().split())


@pytest.mark.skipif(
    keras.config.backend() == "torch", reason="torch itself imports what is there"
)
def test_importing_the_package_imports_no_other_backend_and_no_pillow():
    assert not modules_after("import keras_lrseg") & OTHERS - modules_after(
        "import keras"
    )


@pytest.mark.parametrize("name", MODULES)
def test_public_names_exist_and_are_sorted(name):
    module = importlib.import_module(name)
    names = getattr(module, "__all__", [])
    assert all(hasattr(module, public) for public in names)
    assert len(set(names)) == len(names)


def test_everything_imported_at_the_top_is_public():
    public = {n for n in vars(keras_lrseg) if not n.startswith("_")}
    assert public - {"cli"} == set(keras_lrseg.__all__) | (public & {"cli"}) - {"cli"}


def serialisable_classes():
    kinds = (
        keras.layers.Layer,
        keras.losses.Loss,
        keras.metrics.Metric,
        keras.optimizers.schedules.LearningRateSchedule,
    )
    for name in MODULES:
        for _, item in inspect.getmembers(importlib.import_module(name), inspect.isclass):
            if item.__module__ == name and issubclass(item, kinds):
                yield item


def test_every_class_that_keras_saves_is_registered_in_the_package():
    public = {c for c in serialisable_classes() if not c.__name__.startswith("_")}
    assert {c.__name__ for c in public} >= {
        "SemanticSegmenter",
        "LRDecoder",
        "SegmentationCrossEntropy",
        "MeanIoU",
        "WarmupPolynomial",
    }
    for item in public:
        name = f"keras_lrseg>{item.__name__}"
        assert keras.saving.get_registered_name(item) == name
        assert keras.saving.get_registered_object(name) is item


def test_nothing_is_registered_elsewhere():
    ours = {
        name
        for name, item in GLOBAL_CUSTOM_OBJECTS.items()
        if getattr(item, "__module__", "").startswith("keras_lrseg")
    }
    assert ours
    assert all(name.startswith("keras_lrseg>") for name in ours)


def test_version_is_that_of_the_distribution():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert keras_lrseg.__version__ == project["version"]


def test_command_is_the_one_of_the_distribution():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["keras-lrseg"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
