import pytest

from tests.helpers import fill
from tests.tiny import filled, tiny_segmenter
from tests.training.toys import toy_segmenter


@pytest.fixture(scope="module")
def model():
    return filled(tiny_segmenter, num_classes=5, include_preprocessing=True)


@pytest.fixture(scope="module")
def toy():
    return fill(toy_segmenter(5))
