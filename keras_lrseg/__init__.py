"""LRFormer and OffSeg semantic segmentation for Keras 3."""

try:
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
        EfficientFormerV2LClassifier,
        EfficientFormerV2S0Classifier,
        EfficientFormerV2S1Classifier,
        EfficientFormerV2S2Classifier,
        ImageClassifier,
        LRFormerB,
        LRFormerBClassifier,
        LRFormerBPlus,
        LRFormerL,
        LRFormerLClassifier,
        LRFormerLPlus,
        LRFormerS,
        LRFormerSClassifier,
        LRFormerSPlus,
        LRFormerT,
        LRFormerTClassifier,
        LRFormerTPlus,
        LRFormerXL,
        LRFormerXLClassifier,
        LRFormerXLPlus,
        Mask2FormerSwinB,
        Mask2FormerSwinL,
        Mask2FormerSwinS,
        Mask2FormerSwinT,
        MaskClassificationSegmenter,
        OffSegB,
        OffSegL,
        OffSegT,
        SegFormerB0,
        SegFormerB1,
        SegFormerB2,
        SegFormerB3,
        SegFormerB4,
        SegFormerB5,
        SegNeXtB,
        SegNeXtL,
        SegNeXtS,
        SegNeXtT,
        SemanticSegmenter,
    )
except ModuleNotFoundError as error:
    if error.name not in ("tensorflow", "jax", "torch"):
        raise
    _missing = error.name

    def __getattr__(name):
        # Said when something is used, so that the command line can say it in a line.
        raise ImportError(
            f"the backend '{_missing}' is not installed. Type: pip install "
            f"'keras-lrseg[{_missing}]', or choose another with KERAS_BACKEND."
        )


__version__ = "0.1.0"

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
