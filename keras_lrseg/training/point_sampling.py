"""Masks and label maps read bilinearly at points.

Points are float32 (B, N, 2): x and y from 0 at the left and upper border to 1. Outside
of the pixels' centres a map goes on with zeros, as in the authors' code.
"""

from keras import ops

from keras_lrseg.layers.deformable_attention import read_weighted, two_pixels


def read_maps(maps, points):
    """Read float maps (B, H, W, C) at points (B, N, 2): (B, N, C)."""
    _, height, width, channels = ops.shape(maps)
    x, y = points[:, :, :1, None], points[:, :, 1:, None]  # (B, N, 1, 1)
    x = x * ops.cast(width, "float32") - 0.5
    y = y * ops.cast(height, "float32") - 0.5
    values = read_weighted(maps, x, y, ops.ones_like(x))  # (B*N, C)
    return ops.reshape(values, (-1, points.shape[1], channels))


def read_classes(labels, points, classes):
    """Read the masks of some classes at points, without making them.

    Args:
        labels: int32 (B, H, W).
        points: (B, N, 2).
        classes: int32 (B, R), the masks of each image.

    Returns:
        float32 (B, R, N) in 0..1.
    """
    images, height, width = ops.shape(labels)
    first = height * width * ops.arange(images, dtype="int32")[:, None]
    labels = ops.reshape(labels, (-1,))
    columns = two_pixels(points[..., 0] * ops.cast(width, "float32") - 0.5, width)
    rows = two_pixels(points[..., 1] * ops.cast(height, "float32") - 0.5, height)
    shares = 0.0
    for row, share_y in rows:
        for column, share_x in columns:
            label = ops.take(labels, first + row * width + column)[:, None]
            same = label == classes[:, :, None]  # (B, R, N)
            shares = shares + ops.where(same, (share_y * share_x)[:, None], 0.0)
    return shares


def most_uncertain(logits, targets, count):
    """Keep the points of each mask whose logit is nearest to zero.

    Args:
        logits: (B, D, R, N), of D predictions.
        targets: (B, R, N).
        count: of the points kept.

    Returns:
        Both, (B, D, R, count).
    """
    nearness = -ops.abs(ops.stop_gradient(logits))
    _, index = ops.top_k(nearness, count, sorted=False)
    targets = ops.broadcast_to(targets[:, None], ops.shape(logits))
    return [ops.take_along_axis(x, index, axis=-1) for x in (logits, targets)]
