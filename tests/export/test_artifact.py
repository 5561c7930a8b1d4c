import keras
import numpy as np
import pytest

from keras_lrseg.export import Artifact
from tests.export.graphs import tflite_of

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="no model of Keras in it"
)


@pytest.fixture(scope="module")
def doubled(tmp_path_factory):
    path = tmp_path_factory.mktemp("artifact") / "doubled.tflite"
    path.write_bytes(tflite_of(lambda x: 2 * x, (1, 4, 6, 3)))
    return path


def test_images_are_run_one_after_the_other(doubled):
    images = np.random.default_rng(0).random((3, 4, 6, 3)).astype("float32")
    with Artifact(doubled) as artifact:
        for image in images:
            np.testing.assert_array_equal(artifact.run(image), 2 * image)
    assert len(artifact.milliseconds) == 3
    assert artifact.peak_mib > 0


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path, module = tmp_path_factory.mktemp("artifact") / "doubled", tf.Module()
    spec = tf.TensorSpec((None, 4, 6, 3), tf.float32, name="image")
    module.serve = tf.function(lambda x: {"y": 2 * x}, input_signature=[spec])
    tf.saved_model.save(module, str(path), {"serving_default": module.serve})
    return path


def test_memory_is_the_files_and_not_the_runtimes(doubled, saved):
    """TensorFlow takes hundreds of MiB to be imported, LiteRT about ten."""
    for path, most in ((doubled, 8), (saved, 100)):
        with Artifact(path) as artifact:
            artifact.run(np.zeros((4, 6, 3), "float32"))
        assert 0 < artifact.peak_mib < most


def test_images_are_given_in_the_files_type(doubled):
    image = np.arange(72, dtype="uint8").reshape(4, 6, 3)
    with Artifact(doubled) as artifact:
        assert artifact.run(image).dtype == np.float32


@pytest.mark.parametrize("shape", [(6, 4, 3), (4, 6, 1)])
def test_image_of_another_shape_is_refused(shape, doubled):
    with (
        Artifact(doubled) as artifact,
        pytest.raises(ValueError, match=r"doubled\.tflite cannot be run.*[Dd]imension"),
    ):
        artifact.run(np.zeros(shape, "float32"))


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx", "folder"])
def test_file_that_is_no_model_cannot_be_run(name, tmp_path):
    for content in (None, b"no model"):
        if content:
            (tmp_path / name).write_bytes(content)
        with (
            Artifact(tmp_path / name) as artifact,
            pytest.raises(ValueError, match=f"{name} cannot be run: .{{10,}}"),
        ):
            artifact.run(np.zeros((4, 6, 3), "float32"))
