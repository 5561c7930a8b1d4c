"""Label maps of images of any size, tested as the papers test.

One image at a time. Resizing and averaging run on the host in NumPy: results are the
same on every backend, and memory holds the logits of one version of the image at the
size the model sees it, plus one array (H, W, K) where several versions are averaged.
"""

from collections.abc import Iterator

import numpy as np

from keras_lrseg.backbones.inputs import MIN_SIZE
from keras_lrseg.data import MEAN_COLOUR
from keras_lrseg.evaluation.resize import resize, resize_image, strips
from keras_lrseg.evaluation.settings import TestSettings


def predict_labels(
    model, image: np.ndarray, settings: TestSettings | None = None
) -> np.ndarray:
    """Return the label map of one image.

    What is smaller than 32 pixels is padded with grey. On JAX every new size compiles
    the model once: windows have all the same size, and `align` leaves few; whole images
    of many sizes are slow to start.

    Args:
        model: a segmenter from images (1, h, w, 3) to logits; logits at another size
            are enlarged to the image's.
        image: (H, W, 3), what the model takes: RGB 0..255 for ours.
        settings: how it is resized, cut and averaged; None: the whole image as it is.

    Returns:
        uint8 (H, W).

    Raises:
        ValueError: if the model is no segmenter or the image is not (H, W, 3).
    """
    labels = np.empty(image.shape[:2], "uint8")
    for rows, values in _predicted_strips(model, image, settings):
        labels[rows] = values.argmax(axis=-1)
    return labels


def predict_logits(
    model, image: np.ndarray, settings: TestSettings | None = None
) -> np.ndarray:
    """Return the logits of one image, float32 (H, W, K).

    With several scales or a mirrored image they are the logarithms of the averaged
    softmax. Arguments and errors are those of `predict_labels`.
    """
    settings = settings or TestSettings()
    parts = [values for _, values in _predicted_strips(model, image, settings)]
    logits = np.concatenate(parts)
    if len(settings.versions) > 1:
        logits = np.log(np.maximum(logits, np.finfo("float32").tiny))
    return logits


def labels_of(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the label map, uint8 (H, W), of one image's logits, (1, h, w, K)."""
    labels = np.empty(size, "uint8")
    for rows in strips(size, logits.shape[-1]):
        labels[rows] = resize(logits[0], size, rows).argmax(axis=-1)
    return labels


def check_segmenter(model) -> None:
    """Raise a ValueError unless the model gives logits (B, H, W, K)."""
    shape = getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ValueError(
            "Expected a segmenter, with logits (batch, height, width, classes). "
            f"Received: {type(model).__name__} with the output shape {shape}"
        )


def _predicted_strips(model, image, settings) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows and their logits, or with several versions their mean softmax."""
    check_segmenter(model)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(
            f"image expects the shape (height, width, 3). Received: {image.shape}"
        )
    settings = settings or TestSettings()
    size, versions = image.shape[:2], settings.versions
    if len(versions) == 1:
        logits = _version(model, image, settings, *versions[0])
        for rows in strips(size, logits.shape[-1]):
            yield rows, resize(logits, size, rows)
        return
    total = np.zeros((*size, model.output_shape[-1]), "float32")
    ready = getattr(model, "activation", None) is not None  # probabilities already
    for version in versions:
        logits = _version(model, image, settings, *version)
        for rows in strips(size, logits.shape[-1]):
            scores = resize(logits, size, rows)
            total[rows] += scores if ready else _softmax(scores)
        del logits  # before the next one is made
    for rows in strips(size, total.shape[-1]):
        yield rows, total[rows] / len(versions)


def _version(model, image, settings, scale, flip):
    """Logits (h, w, K) of the image at one scale, mirrored or not."""
    image = resize_image(image, settings.resized(image.shape[:2], scale))
    if settings.align:
        image = resize_image(image, _multiple(image.shape[:2], settings.align))
    if flip:
        image = image[:, ::-1]
    if settings.window:
        logits = _window_mean(model, image, settings.window, settings.stride)
    else:
        logits = _forward(model, image, settings.pad or 1)
    return logits[:, ::-1] if flip else logits


def _window_mean(model, image, window, stride):
    """Mean logits of the windows over each pixel, (h, w, K).

    The last window of a row or column is moved back to the border of the image; along
    a side shorter than the window there is one, of that side's length.
    """
    size = image.shape[:2]
    total = np.zeros((*size, model.output_shape[-1]), "float32")
    count = np.zeros((*size, 1), "float32")
    for y in _starts(size[0], window[0], stride[0]):
        for x in _starts(size[1], window[1], stride[1]):
            place = slice(y, y + window[0]), slice(x, x + window[1])
            total[place] += _forward(model, image[place])
            count[place] += 1
    total /= count
    return total


def _starts(length, window, stride):
    count = max(length - window + stride - 1, 0) // stride + 1
    return [max(min(i * stride, length - window), 0) for i in range(count)]


def _forward(model, image, pad=1):
    """Logits of an image or window, at its size.

    The model sees it padded to multiples of `pad`, and to the least that it takes.
    """
    size = image.shape[:2]
    padded = tuple(max(n, MIN_SIZE) for n in _multiple(size, pad))
    if padded != size:
        canvas = np.empty((*padded, 3), image.dtype)
        canvas[:] = MEAN_COLOUR
        canvas[: size[0], : size[1]] = image
        image = canvas
    logits = np.asarray(model.predict_on_batch(image[None])[0], "float32")
    return resize(logits, padded)[: size[0], : size[1]]


def _multiple(size, divisor):
    return tuple(-(-n // divisor) * divisor for n in size)


def _softmax(logits):
    values = np.exp(logits - logits.max(axis=-1, keepdims=True))
    values /= values.sum(axis=-1, keepdims=True)
    return values
