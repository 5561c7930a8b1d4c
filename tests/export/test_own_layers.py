"""A user's own layer in a model that JAX or PyTorch export through TensorFlow."""

import keras
import pytest

from keras_lrseg.export import export_tflite
from tests.helpers import refused
from tests.tiny import filled, tiny_segmenter

pytestmark = pytest.mark.skipif(
    keras.config.backend() == "tensorflow", reason="converts in its own process"
)


@keras.saving.register_keras_serializable(package="tests")
class Halved(keras.layers.Dense):
    def call(self, inputs, training=None):
        return super().call(inputs, training) / 2


def own_model():
    head = Halved(5, name="classifier")
    return filled(tiny_segmenter, classifier=head, include_preprocessing=True)


def test_layer_of_a_module_is_imported_again(tmp_path):
    model = own_model()
    report = export_tflite(model, tmp_path / "model.tflite", (64, 96))
    assert "100.00% of the labels" in str(report)


def test_layer_of_a_script_is_refused_with_the_remedy(tmp_path, monkeypatch):
    model = own_model()
    monkeypatch.setattr(Halved, "__module__", "__main__")
    with refused("Halved", "KERAS_BACKEND=tensorflow"):
        export_tflite(model, tmp_path / "model.tflite", (64, 96))
    assert list(tmp_path.iterdir()) == []
