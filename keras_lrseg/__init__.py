"""LRFormer and OffSeg semantic segmentation for Keras 3."""

from keras_lrseg import (
    analysis,
    backbones,
    checkpoints,
    data,
    decoders,
    evaluation,
    export,
    layers,
    models,
    training,
)
from keras_lrseg.models import (
    ImageClassifier,
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
    SemanticSegmenter,
)

__version__ = "0.1.0"

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
    "analysis",
    "backbones",
    "checkpoints",
    "data",
    "decoders",
    "evaluation",
    "export",
    "layers",
    "models",
    "training",
]
