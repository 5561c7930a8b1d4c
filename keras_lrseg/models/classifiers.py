"""The classification layers that `classifier=` names."""

import keras

from keras_lrseg.layers import PointwiseConvolution


def make_classifier(classifier, num_classes, dtype=None):
    """Return a classification layer: "pixel" for a 1×1 convolution, or a layer given.

    Raises:
        ValueError: if `num_classes` is below 2, or the name is unknown.
    """
    if not isinstance(num_classes, int) or not 2 <= num_classes <= 255:
        raise ValueError(
            "num_classes expects an integer from 2 to 255, the number of labels (255 "
            f"itself means ignored). Received: num_classes={num_classes!r}"
        )
    if isinstance(classifier, keras.layers.Layer):
        return classifier
    if classifier == "pixel":
        return PointwiseConvolution(
            num_classes,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            name="classifier",
            dtype=dtype,
        )
    raise ValueError(
        f'classifier expects "pixel" or a Keras layer. Received: {classifier!r}'
    )
