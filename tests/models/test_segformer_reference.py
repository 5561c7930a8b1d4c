"""Whole models against numbers of the authors' code, from the same seeded weights."""

import keras
import pytest

import keras_lrseg
from tests.helpers import no_random_start, run
from tests.reference import assert_offseg, load_state, offseg_inputs, torch_state


@pytest.mark.parametrize(
    "name", ["b0", "b0_ol", pytest.param("b1", marks=pytest.mark.slow)]
)
def test_model_reproduces_the_authors_outputs(name):
    variant, _, offset = name.partition("_")
    with no_random_start():
        model = getattr(keras_lrseg, f"SegFormer{variant.upper()}")(
            num_classes=150,
            classifier="offset" if offset else "pixel",
            include_preprocessing=False,
        )
    load_state(model, torch_state(f"segformer_{name}"))

    images = keras.Input((None, None, 3))
    pyramid = model.backbone(images)
    features = model.decoder(pyramid)
    outputs = {f"stage{i}": pyramid[f"P{i + 1}"] for i in (1, 2, 3, 4)}
    outputs["logits"] = model.classifier(features)
    if not offset:  # theirs is in front of the pooling
        outputs["head.fusion_conv"] = features

    case = f"segformer_{name}_512x512"
    results = run(keras.Model(images, outputs), offseg_inputs(case)["images"])
    for output, result in results.items():
        assert_offseg(result, f"{case}/{output}")
