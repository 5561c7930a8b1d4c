"""What images a backbone takes, checked before the maths."""

import keras

MIN_SIZE = 32  # the stride of the last level


def check_input_shape(input_shape) -> tuple:
    """Return `input_shape` as a tuple; raise ValueError unless it is (H, W, 3)."""
    shape = tuple(input_shape) if isinstance(input_shape, (tuple, list)) else ()
    small = any(n is not None and n < MIN_SIZE for n in shape[:2])
    if len(shape) != 3 or shape[2] != 3 or small:
        raise ValueError(
            "input_shape expects (height, width, 3), the sides None or at least "
            f"{MIN_SIZE}. Received: {input_shape}"
        )
    return shape


def check_images(images) -> None:
    """Raise ValueError unless images are (B, H, W, 3) with H and W of at least 32.

    They may be the only item of a list or dict, as Keras lets inputs be.
    """
    shape = tuple(keras.tree.flatten(images)[0].shape)
    if len(shape) != 4 or shape[3] != 3:
        raise ValueError(
            "Images have a wrong shape: expected shape=(None, None, None, 3), a batch "
            f"of RGB images. Received: shape={shape}"
        )
    if any(isinstance(n, int) and n < MIN_SIZE for n in shape[1:3]):
        raise ValueError(
            f"Images must be at least {MIN_SIZE}×{MIN_SIZE} pixels. Received: "
            f"{shape[1]}×{shape[2]}. Enlarge or pad them."
        )
