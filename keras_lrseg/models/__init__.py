"""Compositions and the named variants."""

import inspect

from keras_lrseg.models.efficientformer import (
    EfficientFormerV2LClassifier,
    EfficientFormerV2S0Classifier,
    EfficientFormerV2S1Classifier,
    EfficientFormerV2S2Classifier,
)
from keras_lrseg.models.image_classifier import ImageClassifier
from keras_lrseg.models.lrformer import (
    LRFormerB,
    LRFormerBClassifier,
    LRFormerL,
    LRFormerLClassifier,
    LRFormerS,
    LRFormerSClassifier,
    LRFormerT,
    LRFormerTClassifier,
    LRFormerXL,
    LRFormerXLClassifier,
)
from keras_lrseg.models.lrformer_plus import (
    LRFormerBPlus,
    LRFormerLPlus,
    LRFormerSPlus,
    LRFormerTPlus,
    LRFormerXLPlus,
)
from keras_lrseg.models.mask2former import (
    Mask2FormerSwinB,
    Mask2FormerSwinL,
    Mask2FormerSwinS,
    Mask2FormerSwinT,
)
from keras_lrseg.models.mask_segmenter import MaskClassificationSegmenter
from keras_lrseg.models.offseg import OffSegB, OffSegL, OffSegT
from keras_lrseg.models.segformer import (
    SegFormerB0,
    SegFormerB1,
    SegFormerB2,
    SegFormerB3,
    SegFormerB4,
    SegFormerB5,
)
from keras_lrseg.models.segmenter import SemanticSegmenter
from keras_lrseg.models.segnext import SegNeXtB, SegNeXtL, SegNeXtS, SegNeXtT

MASK_SEGMENTERS = {
    build.__name__: build
    for build in (
        LRFormerTPlus,
        LRFormerSPlus,
        LRFormerBPlus,
        LRFormerLPlus,
        LRFormerXLPlus,
        Mask2FormerSwinT,
        Mask2FormerSwinS,
        Mask2FormerSwinB,
        Mask2FormerSwinL,
    )
}
SEGMENTERS = {
    build.__name__: build
    for build in (
        LRFormerT,
        LRFormerS,
        LRFormerB,
        LRFormerL,
        LRFormerXL,
        *MASK_SEGMENTERS.values(),
        OffSegT,
        OffSegB,
        OffSegL,
        SegFormerB0,
        SegFormerB1,
        SegFormerB2,
        SegFormerB3,
        SegFormerB4,
        SegFormerB5,
        SegNeXtT,
        SegNeXtS,
        SegNeXtB,
        SegNeXtL,
    )
}
CLASSIFIERS = {
    build.__name__: build
    for build in (
        LRFormerTClassifier,
        LRFormerSClassifier,
        LRFormerBClassifier,
        LRFormerLClassifier,
        LRFormerXLClassifier,
        EfficientFormerV2S0Classifier,
        EfficientFormerV2S1Classifier,
        EfficientFormerV2S2Classifier,
        EfficientFormerV2LClassifier,
    )
}


def make(name: str, **arguments):
    """Build a model by its name, for commands; `LRFormerT(...)` serves in code.

    Raises:
        ValueError: if there is no such model; the message lists them. If it does not
            take one of the arguments.
    """
    models = {**SEGMENTERS, **CLASSIFIERS}
    if name not in models:
        raise ValueError(
            f"There is no model {name!r}. Choose from {', '.join(models)}."
        )
    try:
        inspect.signature(models[name]).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"{name} {error}.") from None
    return models[name](**arguments)


__all__ = [
    "EfficientFormerV2LClassifier",
    "EfficientFormerV2S0Classifier",
    "EfficientFormerV2S1Classifier",
    "EfficientFormerV2S2Classifier",
    "ImageClassifier",
    "LRFormerB",
    "LRFormerBClassifier",
    "LRFormerBPlus",
    "LRFormerL",
    "LRFormerLClassifier",
    "LRFormerLPlus",
    "LRFormerS",
    "LRFormerSClassifier",
    "LRFormerSPlus",
    "LRFormerT",
    "LRFormerTClassifier",
    "LRFormerTPlus",
    "LRFormerXL",
    "LRFormerXLClassifier",
    "LRFormerXLPlus",
    "Mask2FormerSwinB",
    "Mask2FormerSwinL",
    "Mask2FormerSwinS",
    "Mask2FormerSwinT",
    "MaskClassificationSegmenter",
    "OffSegB",
    "OffSegL",
    "OffSegT",
    "SegFormerB0",
    "SegFormerB1",
    "SegFormerB2",
    "SegFormerB3",
    "SegFormerB4",
    "SegFormerB5",
    "SegNeXtB",
    "SegNeXtL",
    "SegNeXtS",
    "SegNeXtT",
    "SemanticSegmenter",
    "make",
]
