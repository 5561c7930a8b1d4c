import pytest

import keras_lrseg
from keras_lrseg.checkpoints import load_backbone_weights, load_weights
from tests.helpers import no_weights
from tests.reference import manifest, torch_variables


def shapes_of(variables):
    """Shapes in any order of the axes, without ones: 1×1 kernels may be matrices."""
    return {
        key: sorted(n for n in variable.shape if n > 1)
        for key, variable in variables.items()
    }


def published(name, *prefixes):
    return {
        key.removeprefix("backbone.") if prefixes else key: sorted(
            n for n in shape if n > 1
        )
        for key, shape in manifest(name).items()
        if not key.endswith("num_batches_tracked")
    }


@pytest.mark.parametrize("variant", ["T", "S", "B", "L"])
def test_names_and_shapes_are_those_of_the_published_segmenter(variant):
    with no_weights():
        model = getattr(keras_lrseg, f"LRFormer{variant}")(num_classes=150)
    variables = torch_variables(model, load_weights)
    assert shapes_of(variables) == published(f"lrformer_{variant.lower()}")


def test_names_and_shapes_are_those_of_the_published_xl_backbone():
    with no_weights():
        model = keras_lrseg.LRFormerXL(num_classes=150)
    variables = torch_variables(model, load_backbone_weights)
    assert shapes_of(variables) == published("lrformer_xl_backbone", "backbone.")
