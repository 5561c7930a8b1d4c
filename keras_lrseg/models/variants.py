"""What the named variants of every family share: arguments, words, weights."""

from keras_lrseg.checkpoints import load_backbone_weights, load_weights
from keras_lrseg.decoders import DeformablePixelDecoder, MaskedAttentionDecoder
from keras_lrseg.models.classifiers import check_num_classes, make_classifier
from keras_lrseg.models.image_classifier import ImageClassifier
from keras_lrseg.models.mask_segmenter import MaskClassificationSegmenter
from keras_lrseg.models.segmenter import SemanticSegmenter

_WEIGHTS = """\
    num_classes: number of labels, 2 to 255.
    weights: None for random weights, or a file with weights of the whole model:
        `.keras`, `.weights.h5`, or a published PyTorch checkpoint (`.pth`,
        `.safetensors`; needs `pip install keras-lrseg[convert]`), or
        "hf://owner/repository/file".
    backbone_weights: the same for the backbone alone, for example a classifier that
        was trained on ImageNet.
"""
_IMAGES = """\
    input_shape: (height, width, 3); None for any size from 32.
    include_preprocessing: take RGB in 0..255 and normalise it in the model.
"""
_LAST = """\
    drop_path_rate: of the backbone; None for the paper's value of this variant.
    reset_head: with `weights`: leave the classification layer random, for another
        number of classes.
    name: of the model.
    dtype: dtype policy, for example "mixed_bfloat16".
"""

SEGMENTER_ARGUMENTS = f"""\
{_WEIGHTS}\
    classifier: "pixel" for a 1×1 convolution, "offset" for `OffsetLearning`, or a
        layer of your own.
{_IMAGES}\
    upsample: logits of the images' size; False: at the decoder's stride.
    activation: None for logits, "softmax" for probabilities.
    dropout_rate: probability of dropping a whole channel before the classifier.
{_LAST}"""

MASK_SEGMENTER_ARGUMENTS = f"""\
{_WEIGHTS}\
    classifier: "pixel": a mask is the product of its embedding with the features of
        each pixel; "offset": after `MaskOffsetLearning` has aligned both.
{_IMAGES}\
    upsample: logits of the images' size; False: at stride 4.
    activation: of the logits, which are sums of probabilities; None leaves them.
    num_queries: the most masks of an image.
{_LAST}"""

CLASSIFIER_ARGUMENTS = """\
    num_classes: number of labels.
    weights: None for random weights, or a file with weights of the whole model:
        `.keras`, `.weights.h5`, or a published PyTorch checkpoint where there is one.
    backbone_weights: the same for the backbone alone.
    input_shape: (height, width, 3); None for any size from 32.
    include_preprocessing: take RGB in 0..255 and normalise it in the model.
    activation: None for logits, "softmax" for probabilities.
    drop_path_rate: of the last block.
    reset_head: with `weights`: leave the classification layer random, for another
        number of classes.
    name: of the model.
    dtype: dtype policy, for example "mixed_bfloat16".
"""

RETURNS_CLASSIFIER = """\
Returns:
    An `ImageClassifier`: images (B, H, W, 3) to float32 logits (B, num_classes).
"""

RETURNS_SEGMENTER = """\
Returns:
    A `SemanticSegmenter`: images (B, H, W, 3) to float32 logits
    (B, H, W, num_classes).
"""

RETURNS_MASK_SEGMENTER = """\
Returns:
    A `MaskClassificationSegmenter`: images (B, H, W, 3) to float32 logits
    (B, H, W, num_classes).
"""


def make_segmenter(
    backbone,
    decoder,
    num_classes,
    classifier="pixel",
    weights=None,
    backbone_weights=None,
    reset_head=False,
    dtype=None,
    **settings,
) -> SemanticSegmenter:
    """Compose a segmenter and fill it with the weights asked for.

    Args:
        settings: of `SemanticSegmenter`. The others are `SEGMENTER_ARGUMENTS`.

    Raises:
        ValueError: if the classifier gives another number of logits, or the weights
            do not fit.
    """
    model = SemanticSegmenter(
        backbone, decoder, make_classifier(classifier, num_classes, dtype), **settings
    )
    if model.num_classes != num_classes:
        raise ValueError(
            f"The classifier gives {model.num_classes} logits, but num_classes="
            f"{num_classes}. Make both the same."
        )
    return _filled(model, weights, backbone_weights, reset_head)


def make_mask_segmenter(
    backbone,
    num_classes,
    classifier="pixel",
    num_queries=100,
    weights=None,
    backbone_weights=None,
    reset_head=False,
    dtype=None,
    **settings,
) -> MaskClassificationSegmenter:
    """Compose Mask2Former's decoders with a backbone and fill in the weights asked for.

    Args:
        settings: of `MaskClassificationSegmenter`. The others are
            `MASK_SEGMENTER_ARGUMENTS`.

    Raises:
        ValueError: if `num_classes` or `classifier` is none of theirs, or the weights
            do not fit.
    """
    num_classes = check_num_classes(num_classes)
    if classifier not in ("pixel", "offset"):
        raise ValueError(
            f'classifier expects "pixel" or "offset". Received: {classifier!r}'
        )
    model = MaskClassificationSegmenter(
        backbone,
        DeformablePixelDecoder(name="pixel_decoder", dtype=dtype),
        MaskedAttentionDecoder(
            num_classes,
            num_queries,
            offset=classifier == "offset",
            name="mask_decoder",
            dtype=dtype,
        ),
        **settings,
    )
    return _filled(model, weights, backbone_weights, reset_head)


def make_image_classifier(
    backbone,
    head,
    num_classes,
    weights=None,
    backbone_weights=None,
    reset_head=False,
    **settings,
) -> ImageClassifier:
    """Compose an image classifier and fill it with the weights asked for.

    Args:
        settings: of `ImageClassifier`.

    Raises:
        ValueError: if the weights do not fit.
    """
    model = ImageClassifier(backbone, num_classes, head, **settings)
    return _filled(model, weights, backbone_weights, reset_head)


def _filled(model, weights, backbone_weights, reset_head):
    if backbone_weights is not None:
        load_backbone_weights(model, backbone_weights)
    if weights is not None:
        load_weights(model, weights, reset_head=reset_head)
    return model


def named(build, name, doc):
    """Give the function of a variant its public name and docstring."""
    build.__name__ = build.__qualname__ = name
    build.__doc__ = doc
    return build
