"""The classification layers that `classifier=` names."""

import keras

from keras_lrseg.layers import OffsetLearning, PointwiseConvolution
from keras_lrseg.layers.arguments import as_integer


def is_offset(classifier) -> bool:
    """Whether a `classifier=` argument means Offset Learning."""
    return classifier == "offset" or isinstance(classifier, OffsetLearning)


def check_num_classes(num_classes) -> int:
    """Return a number of labels that masks can hold, or raise a ValueError."""
    number = as_integer(num_classes)
    if number is None or not 2 <= number <= 255:
        raise ValueError(
            "num_classes expects an integer from 2 to 255, the number of labels (255 "
            f"itself means ignored). Received: num_classes={num_classes!r}"
        )
    return number


def make_classifier(classifier, num_classes, dtype=None):
    """Return a classification layer.

    Args:
        classifier: "pixel" for a 1×1 convolution, "offset" for `OffsetLearning`, or a
            layer of your own, which is returned as it is.

    Raises:
        ValueError: if `num_classes` is below 2, or the name is unknown.
    """
    num_classes = check_num_classes(num_classes)
    if isinstance(classifier, keras.layers.Layer):
        return classifier
    if classifier == "pixel":
        return PointwiseConvolution(
            num_classes,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            name="classifier",
            dtype=dtype,
        )
    if classifier == "offset":
        return OffsetLearning(num_classes, name="classifier", dtype=dtype)
    raise ValueError(
        'classifier expects "pixel", "offset" or a Keras layer. '
        f"Received: {classifier!r}"
    )
