"""OffSeg: the authors' numbers for the whole of OffSeg-T, its settings, its costs."""

import functools

import keras

from keras_lrseg.models.offseg import OffSegT
from tests.helpers import (
    assert_offseg,
    load_state,
    no_random_start,
    offseg_inputs,
    run,
    torch_state,
)

# Of the authors' code at 512×512 with 150 classes: millions of parameters less the
# classification layer that it never calls, and billions of multiply-accumulates of
# convolutions, and of all products that have a weight or two activations.
UNUSED = 150 * (256 + 1) / 1e6
COSTS = {
    "T": (6.222 - UNUSED, 5.29, 9.54),
    "B": (12.955 - UNUSED, 10.22, 14.94),
    "L": (26.414 - UNUSED, 17.02, 22.08),
}


@functools.cache
def published():
    with no_random_start():
        model = OffSegT(num_classes=150, include_preprocessing=False)
    return load_state(model, torch_state("offseg_t"))


def test_t_reproduces_the_authors_outputs():
    model = published()
    images = keras.Input((None, None, 3))
    pyramid = model.backbone(images)
    outputs = {f"stage{i}": pyramid[f"P{i + 1}"] for i in (1, 2, 3, 4)}
    features = model.decoder(pyramid)
    outputs |= {"head.align": features, "logits": model.classifier(features)}
    name = "offseg_t_512x512"
    outputs = run(keras.Model(images, outputs), offseg_inputs(name)["images"])
    for part, output in outputs.items():
        assert_offseg(output, f"{name}/{part}", tolerance=1e-3)
