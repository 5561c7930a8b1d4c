"""The models that tools/study.py compares."""

import numpy as np
import pytest
import study

from keras_lrseg.training import SegmentationCrossEntropy
from tests.helpers import images, numpy

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", study.STUDIES)
def test_models_of_a_study_differ_and_give_logits_of_the_classes(name):
    described = set()
    for make in study.STUDIES[name].models.values():
        model = make(5)
        assert model.output_shape[-1] == 5
        described.add(str(model.get_config()))
    assert len(described) == len(study.STUDIES[name].models)


def test_regions_of_ocr_are_trained():
    model = study.STUDIES["decoders"].models["OCR"](3)
    model.compile("sgd", SegmentationCrossEntropy(), jit_compile=False)
    before = numpy(model.decoder.region_logits.kernel)
    labels = np.random.default_rng(0).integers(0, 3, (1, 64, 64))
    assert np.isfinite(model.train_on_batch(images(0, 64, 64), labels))
    assert np.any(numpy(model.decoder.region_logits.kernel) != before)
    assert model.predict_on_batch(images(0, 64, 64)).shape == (1, 64, 64, 3)
