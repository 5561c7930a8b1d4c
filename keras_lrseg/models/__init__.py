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
]
