"""What goes into an exported file and what comes out of it."""

import operator
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from keras_lrseg.backbones.inputs import MIN_SIZE
from keras_lrseg.layers import resize_bilinear

OUTPUTS = ("logits", "labels", "confidence")
INPUTS = ("uint8", "float32")


@dataclass(frozen=True)
class Interface:
    """Input and output of an exported file, without the batch axis.

    Args:
        size: (height, width) of the images in pixels, fixed in the file; whole numbers
            of any type.
        output: "logits" float32 (h, w, K); "confidence", their softmax; or "labels",
            the class of the largest logit, (h, w), uint8. Of an image classifier (K,)
            and an int32.
        input: "uint8" or "float32": RGB (H, W, 3) in 0..255 both.
        full_size: enlarge the logits bilinearly to the images' size, before the softmax
            or the choice of the label. False: the output has the decoder's stride.
            None: true for "confidence", which ready-made clients show as it is.

    Raises:
        ValueError: if a value is none of these.
    """

    size: tuple[int, int]
    output: str = "logits"
    input: str = "uint8"
    full_size: bool | None = None

    def __post_init__(self):
        try:
            height, width = map(operator.index, self.size)
        except (TypeError, ValueError):
            raise ValueError(
                "size expects (height, width), two whole numbers. "
                f"Received: {self.size!r}"
            ) from None
        object.__setattr__(self, "size", (height, width))  # JSON knows no NumPy
        if min(self.size) < MIN_SIZE:
            nearest = tuple(max(side, MIN_SIZE) for side in self.size)
            raise ValueError(
                f"size expects at least {MIN_SIZE} pixels a side. "
                f"Received: {self.size}; the nearest is {nearest}"
            )
        for name, valid in (("output", OUTPUTS), ("input", INPUTS)):
            if getattr(self, name) not in valid:
                raise ValueError(
                    f"{name} expects one of {valid}. Received: {getattr(self, name)!r}"
                )

    @property
    def enlarged(self) -> bool:
        """Whether the output of a segmenter has the images' size."""
        if self.full_size is None:
            return self.output == "confidence"
        return self.full_size

    def check_model(self, model: keras.Model) -> None:
        """Refuse a model that no file with this interface can be made of.

        Raises:
            ValueError: if it is not of this library, takes images that are normalised
                already or of another size, or has more classes than a label map of
                bytes can tell apart.
        """
        if not hasattr(model, "logits"):
            raise ValueError(
                "Only segmenters and image classifiers of this library are exported. "
                f"Received: {type(model).__name__}"
            )
        if not model.include_preprocessing:
            raise ValueError(
                "The exported file takes RGB 0..255: build the model with "
                "include_preprocessing=True."
            )
        height, width = (
            fixed or given
            for fixed, given in zip(model.input_shape[1:3], self.size, strict=True)
        )
        if (height, width) != self.size:
            raise ValueError(
                f"The model takes {height}×{width}: its input_shape is fixed. "
                f"Received: {self.size[0]}×{self.size[1]}; give "
                f"size=({height}, {width}) (--size {height} {width})"
            )
        if self.full_size and not is_segmenter(model):
            raise ValueError(
                "An image classifier gives no maps that could have the images' size. "
                "Leave out full_size (--full-size)."
            )
        too_many = is_segmenter(model) and model.num_classes > 256
        if self.output == "labels" and too_many:
            raise ValueError(
                f"Labels are bytes, {model.num_classes} classes are too many for them. "
                "Export the logits."
            )

    def logits(self, model: keras.Model) -> keras.KerasTensor:
        """Return the model's logits at the size of the output, symbolic."""
        if not (self.enlarged and is_segmenter(model)):
            return model.logits
        if hasattr(model, "predictions"):  # masks are enlarged before their sum
            classes, masks = model.predictions[-1]
            masks = resize_bilinear(masks, self.size)
            return model.get_layer("classes_of_masks")([classes, masks])
        return resize_bilinear(model.logits, self.size)

    def reference(self, model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function from an image (H, W, 3) to what the file should give.

        It raises a ValueError if the model's logits are not finite.
        """
        logits = keras.Model(model.input, self.logits(model))
        # Compiled on JAX alone, which would compile each operation otherwise.
        logits.compile(jit_compile=keras.config.backend() == "jax")

        def expected(image):
            x = ops.convert_to_tensor(logits.predict_on_batch(image[None]), "float32")
            if not np.isfinite(ops.convert_to_numpy(x)).all():
                # No file can be compared with it: the argmax of NaN is a class too.
                raise ValueError(
                    "The model's logits are not finite numbers (NaN or infinity): its "
                    "weights are damaged or its training diverged. Nothing was "
                    "exported; take an earlier checkpoint."
                )
            if self.output == "confidence":
                x = ops.softmax(x)
            x = ops.convert_to_numpy(x)[0]
            return x.argmax(-1) if self.output == "labels" else x

        return expected


def is_segmenter(model: keras.Model) -> bool:
    """Whether a model of this library labels pixels, not whole images."""
    return len(model.output_shape) == 4
