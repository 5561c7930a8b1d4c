import importlib
import inspect
import os
import pathlib
import pkgutil
import shutil
import subprocess
import sys
import tomllib
import zipfile

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


def test_package_is_imported_without_other_backends_and_optional_packages():
    backends = {"tensorflow", "jax", "torch"} - {keras.config.backend()}
    absent = {*backends, "PIL", "sklearn", "safetensors", "ai_edge_litert"}
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent})); import keras_lrseg"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert run.returncode == 0, run.stderr.decode()


def test_importing_the_package_imports_no_other_backend():
    code = "import sys, keras; a = {*sys.modules}; import keras_lrseg; "
    code += "print(*{*sys.modules} - a)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    imported = {name.partition(".")[0] for name in run.stdout.decode().split()}
    assert "keras_lrseg" in imported
    assert not imported & {"tensorflow", "jax", "torch", "PIL", "sklearn"}


@pytest.mark.parametrize("name", ["keras_lrseg", *MODULES])
def test_public_names_exist(name):
    module = importlib.import_module(name)
    names = getattr(module, "__all__", [])
    assert all(hasattr(module, public) for public in names)
    assert sorted(set(names)) == sorted(names)


def test_every_model_can_be_had_from_the_top():
    assert {*keras_lrseg.models.__all__} - {"make"} <= {*keras_lrseg.__all__}


def serialisable_classes():
    kinds = (
        keras.layers.Layer,
        keras.losses.Loss,
        keras.metrics.Metric,
        keras.optimizers.schedules.LearningRateSchedule,
    )
    for name in MODULES:
        for _, item in inspect.getmembers(
            importlib.import_module(name), inspect.isclass
        ):
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


def test_wheel_holds_demo_data_and_page_and_works_outside_the_checkout(tmp_path):
    pytest.importorskip("setuptools", minversion="77")  # as pyproject.toml asks for
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(ROOT / "keras_lrseg", source / "keras_lrseg")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = "-m pip wheel --no-deps --no-build-isolation --no-index --wheel-dir"
    command = [sys.executable, *command.split(), tmp_path, source]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    for folder in ("keras_lrseg/data/demo", "keras_lrseg/web"):
        in_checkout, in_wheel = (
            {path.relative_to(root) for path in (root / folder).rglob("*.*")}
            for root in (ROOT, site)
        )
        assert in_checkout == in_wheel
    code = "from keras_lrseg.data import dataset; print(dataset.__file__, "
    code += "len(dataset.load_demo('train')))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [str(site / "keras_lrseg/data/dataset.py"), "91"]
