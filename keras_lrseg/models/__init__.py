"""Compositions and the named variants."""

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
from keras_lrseg.models.segmenter import SemanticSegmenter

SEGMENTERS = {
    build.__name__: build
    for build in (LRFormerT, LRFormerS, LRFormerB, LRFormerL, LRFormerXL)
}
CLASSIFIERS = {
    build.__name__: build
    for build in (
        LRFormerTClassifier,
        LRFormerSClassifier,
        LRFormerBClassifier,
        LRFormerLClassifier,
        LRFormerXLClassifier,
    )
}


def make(name: str, **arguments):
    """Build a model by its name, for commands; `LRFormerT(...)` serves in code.

    Raises:
        ValueError: if there is no such model; the message lists them.
    """
    models = {**SEGMENTERS, **CLASSIFIERS}
    if name not in models:
        raise ValueError(
            f"There is no model {name!r}. Choose from {', '.join(models)}."
        )
    return models[name](**arguments)


__all__ = [
    "ImageClassifier",
    "LRFormerB",
    "LRFormerBClassifier",
    "LRFormerL",
    "LRFormerLClassifier",
    "LRFormerS",
    "LRFormerSClassifier",
    "LRFormerT",
    "LRFormerTClassifier",
    "LRFormerXL",
    "LRFormerXLClassifier",
    "SemanticSegmenter",
    "make",
]
