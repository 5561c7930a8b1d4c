"""Label maps of images of any size, tested as the papers test.

One image at a time. Resizing and averaging run on the host in NumPy, so that results
are the same on every backend. They pass through it in blocks of rows, and memory holds
of each version of the image, that is scale and mirroring, what the model gave for the
whole image, or the windows beside each other.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from keras_lrseg.backbones.inputs import MIN_SIZE
from keras_lrseg.data import MEAN_COLOUR
from keras_lrseg.evaluation.resize import resize, resize_image, resize_rows, strips
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
    return _largest(_blocks(model, image, settings or TestSettings()))


def predict_logits(
    model, image: np.ndarray, settings: TestSettings | None = None
) -> np.ndarray:
    """Return the logits of one image, float32 (H, W, K).

    With several scales or a mirrored image they are the logarithms of the averaged
    softmax. Arguments and errors are those of `predict_labels`.
    """
    settings = settings or TestSettings()
    logits = np.concatenate(list(_blocks(model, image, settings)))
    if len(settings.versions) > 1:
        logits = np.log(np.maximum(logits, np.finfo("float32").tiny))
    return logits


def labels_of(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the label map, uint8 (H, W), of one image's logits, (1, h, w, K)."""
    return _largest(resize_rows(logits, logits.shape[1], size))


def check_segmenter(model) -> None:
    """Raise a ValueError unless the model gives logits (B, H, W, K)."""
    shape = getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ValueError(
            "Expected a segmenter, with logits (batch, height, width, classes). "
            f"Received: {type(model).__name__} with the output shape {shape}"
        )


def _largest(blocks):
    """The label map of logits that come in blocks of rows."""
    return np.concatenate([block.argmax(axis=-1).astype("uint8") for block in blocks])


def _blocks(model, image, settings) -> Iterator[np.ndarray]:
    """Logits of the image, or with several versions their mean softmax: (n, W, K)."""
    check_segmenter(model)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(
            f"image expects the shape (height, width, 3). Received: {image.shape}"
        )
    versions = [_version(model, image, settings, *v) for v in settings.versions]
    if len(versions) == 1:
        yield from versions[0]
        return
    ready = getattr(model, "activation", None) is not None  # probabilities already
    for scores in zip(*versions, strict=True):
        yield sum(scores if ready else map(_softmax, scores)) / len(versions)


def _version(model, image, settings, scale, flip):
    """Logits of the image seen at one scale, mirrored or not, in blocks of rows."""
    size = image.shape[:2]
    image = resize_image(image, settings.resized(size, scale))
    if settings.align:
        image = resize_image(image, _multiple(image.shape[:2], settings.align))
    if flip:
        image = image[:, ::-1]
    if settings.window:
        blocks = _window_mean(model, image, settings.window, settings.stride)
    else:
        blocks = _whole(model, image, settings.pad or 1)
    if flip:
        blocks = (block[:, ::-1] for block in blocks)
    return resize_rows(blocks, len(image), size)


def _whole(model, image, pad):
    """Logits of an image seen whole, in blocks of rows, the padding's below them."""
    logits, padded = _forward(model, image, pad)
    blocks = resize_rows([logits], len(logits), padded)
    return (block[:, : image.shape[1]] for block in blocks)


def _window_mean(model, image, window, stride):
    """Mean logits of the windows over each pixel, in blocks of rows.

    The last window of a row or column is moved back to the border of the image; along
    a side shorter than the window there is one, of that side's length.
    """
    height, width = image.shape[:2]
    tops = _starts(height, window[0], stride[0])
    band = np.zeros((min(window[0], height), width, model.output_shape[-1]), "float32")
    count = np.zeros((*band.shape[:2], 1), "float32")
    for top, next_top in itertools.pairwise([*tops, height]):
        for x in _starts(width, window[1], stride[1]):
            columns = slice(x, x + window[1])
            crop = image[top : top + len(band), columns]
            logits = resize(*_forward(model, crop))
            band[:, columns] += logits[: crop.shape[0], : crop.shape[1]]
            count[:, columns] += 1
        done = next_top - top  # rows that no other window covers
        for rows in strips((done, width), band.shape[-1]):
            yield band[rows] / count[rows]
        for array in band, count:
            for row in range(done, len(array)):  # a slice would need a copy
                array[row - done] = array[row]
            array[-done:] = 0


def _starts(length, window, stride):
    count = max(length - window + stride - 1, 0) // stride + 1
    return [max(min(i * stride, length - window), 0) for i in range(count)]


def _forward(model, image, pad=1):
    """Logits (h, w, K) of an image or window, and the size that it was padded to.

    That is to multiples of `pad`, and to the least that the model takes.
    """
    size = image.shape[:2]
    padded = tuple(max(n, MIN_SIZE) for n in _multiple(size, pad))
    if padded != size:
        canvas = np.empty((*padded, 3), image.dtype)
        canvas[:] = MEAN_COLOUR
        canvas[: size[0], : size[1]] = image
        image = canvas
    return np.asarray(model.predict_on_batch(image[None])[0], "float32"), padded


def _multiple(size, divisor):
    return tuple(-(-n // divisor) * divisor for n in size)


def _softmax(logits):
    values = np.exp(logits - logits.max(axis=-1, keepdims=True))
    values /= values.sum(axis=-1, keepdims=True)
    return values
