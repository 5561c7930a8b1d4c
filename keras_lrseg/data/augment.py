"""Joint augmentation of an image and its mask, in TensorFlow operations.

What the published recipes run through mmsegmentation (RandomResize, RandomCrop with
`cat_max_ratio`, RandomFlip, PhotoMetricDistortion), in another form: the window is
chosen first, and only its pixels are resampled. One difference: mmsegmentation shrinks
without antialias; here the triangle kernel widens when shrinking, so that halved images
do not flicker with their sub-pixel offset. Enlarging is plain bilinear in both.

Every function is a pure function of its tensors. Sizes and offsets are int32 (2,) of
(height, width), in pixels of the scaled image, of which a window is a part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from keras_lrseg.data.files import required

if TYPE_CHECKING:
    import tensorflow as tf

MEAN_COLOUR = (124, 116, 104)
"""ImageNet's mean RGB: padding that is about 0 after normalisation."""

Part = Callable[["tf.Tensor", "tf.Tensor"], "tf.Tensor"]
"""An image of which only the needed pixels are decoded: called with the first (row,
column) and the one after the last, it gives uint8 (h, w, 3), RGB."""

CROP_TRIES = 10
BRIGHTNESS = 32.0  # of 255
CONTRAST = SATURATION = (0.5, 1.5)
HUE = 18 / 180  # of the full circle: OpenCV's hues of bytes run over 0..179


def augment(
    part: Part,
    mask: tf.Tensor,
    seed: tf.Tensor,
    crop: tuple[int, int],
    *,
    scale: tuple[float, float],
    short_side: int | None,
    max_class_share: float,
    flip: bool,
    photometric: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Scales, crops, flips, distorts and pads one pair.

    Args:
        part: of the image.
        mask: uint8 (H, W), 255 = ignored.
        seed: integers (2,), the only source of randomness.
        crop: (height, width) of the result.
        scale, short_side, max_class_share, flip, photometric: as `training_pipeline`
            says.

    Returns: uint8 (*crop, 3) and uint8 crop.
    """
    tf = required("tensorflow")
    # One draw for everything: factor, flip, colours, offsets.
    uniforms = tf.random.stateless_uniform([2 + 9 + 2 * CROP_TRIES], seed)
    colours, tries = uniforms[2:11], tf.reshape(uniforms[11:], [CROP_TRIES, 2])

    factor = scale[0] + (scale[1] - scale[0]) * uniforms[0]
    if short_side is not None:
        shortest = tf.reduce_min(tf.shape(mask))
        factor *= short_side / tf.cast(shortest, tf.float32)
    size = scaled_size(mask, factor)
    window = tf.minimum(size, crop)
    offset = choose_offset(mask, size, window, tries, max_class_share)
    image = resize_window(part, tf.shape(mask), size, offset, window)
    mask = gather_window(mask, size, offset, window)
    if photometric:
        image = distort_colours(image, colours)
    image = to_bytes(image)
    if flip:
        image, mask = tf.cond(
            uniforms[1] < 0.5,
            lambda: (tf.reverse(image, [1]), tf.reverse(mask, [1])),
            lambda: (image, mask),
        )
    return pad(image, mask, crop)


def scaled_size(mask: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """The (height, width) of `mask` times `factor`, rounded, at least 1."""
    tf = required("tensorflow")
    size = tf.cast(tf.shape(mask), tf.float32) * factor
    return tf.maximum(tf.cast(tf.floor(size + 0.5), tf.int32), 1)


def resize_window(
    part: Part,
    source: tf.Tensor,
    size: tf.Tensor,
    offset: tf.Tensor,
    window: tf.Tensor,
) -> tf.Tensor:
    """What resizing an image to `size` and cropping the window would give.

    Bilinear with half-pixel centres, antialiased where it shrinks.

    Args:
        part: of the image.
        source: the image's size.
        size: of the whole scaled image.
        offset: of the window, with offset + window <= size.
        window: its size, (h, w).

    Returns: float32 (h, w, 3), 0..255.
    """
    tf = required("tensorflow")
    scale = size / source  # float64 (2,)
    # The kernel reaches max(1, 1 / scale) source pixels far; one more for rounding.
    reach = tf.maximum(1.0 / scale, 1.0) + 1.0
    first = tf.cast(tf.cast(offset, tf.float64) / scale - reach, tf.int32)
    last = tf.cast(tf.cast(offset + window, tf.float64) / scale + reach, tf.int32)
    first, last = tf.maximum(first, 0), tf.minimum(last + 1, source)
    shift = tf.cast(first, tf.float64) * scale - tf.cast(offset, tf.float64)
    return tf.raw_ops.ScaleAndTranslate(
        images=part(first, last)[None],
        size=window,
        scale=tf.cast(scale, tf.float32),
        translation=tf.cast(shift, tf.float32),
        kernel_type="triangle",
        antialias=True,
    )[0]


def gather_window(
    mask: tf.Tensor,
    size: tf.Tensor,
    offset: tf.Tensor,
    window: tf.Tensor,
    step: int = 1,
) -> tf.Tensor:
    """The same window of a mask, by nearest neighbour with half-pixel centres.

    Source index of row i: floor((i + 0.5) * H / size), in exact integer arithmetic.

    Args: as for `resize_window`, with a mask uint8 (H, W); `step` takes only every
        step-th row and column of the window.

    Returns: uint8 (ceil(h / step), ceil(w / step)).
    """
    tf = required("tensorflow")
    source, size, offset, window = (
        tf.cast(x, tf.int64) for x in (tf.shape(mask), size, offset, window)
    )
    for axis in (0, 1):
        centres = 2 * (offset[axis] + tf.range(window[axis], delta=step)) + 1
        indices = centres * source[axis] // (2 * size[axis])
        # Rows, then the transpose's rows: twice as fast as gathering columns.
        mask = tf.transpose(tf.gather(mask, indices))
    return mask


def choose_offset(
    mask: tf.Tensor,
    size: tf.Tensor,
    window: tf.Tensor,
    uniforms: tf.Tensor,
    max_class_share: float,
) -> tf.Tensor:
    """The first random window in which no class covers too much.

    Judged by every second row and column, at a quarter of the cost.

    Args:
        mask: uint8 (H, W).
        size: of the whole scaled image.
        window: its size.
        uniforms: float32 (tries, 2) in 0..1, one row per candidate.
        max_class_share: of the labelled pixels, 0..1. A window without any labelled
            pixel is refused too. Where all fail, the last candidate is taken.

    Returns: int32 (2,).
    """
    tf = required("tensorflow")
    room = size - window
    offsets = tf.cast(uniforms * tf.cast(room + 1, tf.float32), tf.int32)
    offsets = tf.minimum(offsets, room)  # float32 may round up to the end

    def refused(i):
        labels = gather_window(mask, size, offsets[i], window, step=2)
        labels = tf.cast(tf.reshape(labels, [-1]), tf.int32)
        counts = tf.math.bincount(labels, minlength=256)[:255]
        labelled = tf.cast(tf.reduce_sum(counts), tf.float32)
        largest = tf.cast(tf.reduce_max(counts), tf.float32)
        return (largest > max_class_share * labelled) | (labelled == 0)

    last = tf.shape(offsets)[0] - 1
    chosen = tf.while_loop(
        lambda i: tf.cond(i < last, lambda: refused(i), lambda: False),
        lambda i: [i + 1],
        [0],
    )[0]
    return offsets[chosen]


def distort_colours(image: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """Random brightness, contrast, saturation and hue, each with probability 0.5.

    Args:
        image: float32 (h, w, 3), RGB, 0..255.
        uniforms: float32 (9,) in 0..1: five coins, then four amounts.

    Returns: float32 (h, w, 3), 0..255.
    """
    tf = required("tensorflow")
    coins, amounts = tf.unstack(uniforms[:5] < 0.5), tf.unstack(uniforms[5:])

    def drawn(i, low, high, neutral):
        return tf.where(coins[i], low + (high - low) * amounts[i], neutral)

    brightness = drawn(0, -BRIGHTNESS, BRIGHTNESS, 0.0)
    contrast = drawn(1, *CONTRAST, 1.0)
    saturation = drawn(2, *SATURATION, 1.0)
    hue = drawn(3, -HUE, HUE, 0.0)
    contrast_first = coins[4]

    # Brightness, clipped to 0..255, then contrast, clipped again, in one step.
    first = tf.where(contrast_first, contrast, 1.0)
    image = image * first + brightness * first
    image = tf.clip_by_value(image, 0.0, 255.0 * tf.minimum(first, 1.0))
    image = tf.cond(
        coins[2] | coins[3],
        lambda: shift_hue_and_saturation(image, hue, saturation),
        lambda: image,
    )
    return tf.cond(
        contrast_first,
        lambda: image,
        lambda: tf.clip_by_value(image * contrast, 0.0, 255.0),
    )


def shift_hue_and_saturation(
    image: tf.Tensor, hue: tf.Tensor, saturation: tf.Tensor
) -> tf.Tensor:
    """Turns the hue and multiplies the saturation (at most to 1) of HSV.

    The value is kept, so HSV need not be computed whole: with the largest channel V and
    chroma C, a channel is V where the hue is less than a sixth of the circle from the
    channel's own, V - C beyond two sixths, and linear between.

    Args:
        image: float32 (h, w, 3), RGB, not negative.
        hue: to add, -0.1..0.1 of the full circle.
        saturation: factor, 0 or more.

    Returns: float32 (h, w, 3).
    """
    tf = required("tensorflow")
    red, green, blue = tf.unstack(image, axis=-1)
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    per_chroma = 1.0 / tf.maximum(chroma, 1e-6)
    # Sixths of the circle from red, -1..5; after the turn -1.6..5.6.
    angle = 6.0 * hue + tf.where(
        value == red,
        (green - blue) * per_chroma,
        tf.where(
            value == green,
            (blue - red) * per_chroma + 2.0,
            (red - green) * per_chroma + 4.0,
        ),
    )
    chroma = tf.minimum(chroma * saturation, value)
    channels = []
    for own in (0.0, 2.0, 4.0):
        distance = tf.abs(angle - own)
        distance = tf.minimum(distance, 6.0 - distance)
        channels.append(value - chroma * tf.clip_by_value(distance - 1.0, 0.0, 1.0))
    return tf.transpose(tf.stack(channels), [1, 2, 0])  # faster than axis=-1


def to_bytes(image: tf.Tensor) -> tf.Tensor:
    """Rounds float32 values of 0..255 to uint8."""
    tf = required("tensorflow")
    return tf.cast(image + 0.5, tf.uint8)


def pad(
    image: tf.Tensor, mask: tf.Tensor, size: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pads both at the bottom and right.

    Args:
        image: uint8 (h, w, 3).
        mask: uint8 (h, w).
        size: (height, width), not smaller.

    Returns: uint8 (height, width, 3), padded with MEAN_COLOUR, and uint8
        (height, width), padded with 255; both of static shape.
    """
    tf = required("tensorflow")
    height, width = tf.unstack(tf.shape(mask))
    below, right = size[0] - height, size[1] - width
    colour = tf.constant(MEAN_COLOUR, tf.uint8)
    image = tf.concat([image, tf.broadcast_to(colour, [height, right, 3])], axis=1)
    image = tf.concat([image, tf.broadcast_to(colour, [below, size[1], 3])], axis=0)
    mask = tf.pad(mask, [[0, below], [0, right]], constant_values=255)
    return tf.ensure_shape(image, (*size, 3)), tf.ensure_shape(mask, size)
