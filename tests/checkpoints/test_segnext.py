import pytest

import keras_lrseg
from keras_lrseg.checkpoints import load_backbone_weights, load_weights, segnext
from tests.checkpoints.test_lrformer import shapes_of
from tests.helpers import no_random_start, no_weights, numpy
from tests.reference import load_state, manifest, torch_state, torch_variables


def published(name):
    """Shapes by key as `SegNeXt` uses them: the squeeze is split over the levels."""
    shapes = {k: v for k, v in manifest(name).items() if "num_batches" not in k}
    if "_ol" in name:  # Made by the authors' base class, and never called.
        shapes = {k: v for k, v in shapes.items() if ".conv_seg." not in k}
    width, total, *_ = shapes.pop(f"decode_head.{segnext.SQUEEZE}")
    parts = {480: (64, 160, 256), 960: (128, 320, 512)}[total]
    for i, part in enumerate(parts):
        shapes[f"decode_head.squeeze.{i}.conv.weight"] = (width, part)
    return {key: sorted(n for n in shape if n > 1) for key, shape in shapes.items()}


@pytest.mark.parametrize(
    ("variant", "classifier"),
    [(v, c) for c in ("pixel", "offset") for v in "TSBL" if (v, c) != ("L", "offset")],
)
def test_names_and_shapes_are_those_of_the_published_segmenter(variant, classifier):
    with no_weights():
        model = getattr(keras_lrseg, f"SegNeXt{variant}")(150, classifier=classifier)
    suffix = "_ol" if classifier == "offset" else ""
    expected = published(f"segnext_{variant.lower()}{suffix}")
    assert shapes_of(torch_variables(model, load_weights)) == expected


def tensors_of(variables):
    return {key: numpy(variable) for key, variable in variables.items()}


def test_authors_own_imagenet_checkpoint_gives_the_same_backbone():
    """It has bare names, one name otherwise and a classification head."""
    state = torch_state("segnext_t")
    bare = {
        key.removeprefix("backbone.").replace(".dwconv.", ".dwconv.dwconv."): value
        for key, value in state.items()
        if key.startswith("backbone.")
    }
    bare |= {"head.weight": numpy([[0.0]]), "head.bias": numpy([0.0])}
    with no_random_start():
        model = keras_lrseg.SegNeXtT(5)
    load_state(model, bare, load_backbone_weights)
    own = torch_variables(model, load_backbone_weights)
    loaded = tensors_of(own)
    for variable in own.values():
        variable.assign(0 * variable)
    load_state(model, state, load_backbone_weights)
    for key, value in tensors_of(own).items():
        assert value.any(), key
        assert (value == loaded[key]).all(), key
