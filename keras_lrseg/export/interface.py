"""What goes into an exported file and what comes out of it."""

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
        size: (height, width) of the images in pixels, fixed in the file.
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
        if len(self.size) != 2:
            raise ValueError(f"size expects (height, width). Received: {self.size}")
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
                already, or has more classes than a label map of bytes can tell apart.
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
        """Return a function from an image (H, W, 3) to what the file should give."""
        logits = keras.Model(model.input, self.logits(model))
        # Compiled on JAX alone, which would compile each operation otherwise.
        logits.compile(jit_compile=keras.config.backend() == "jax")

        def expected(image):
            x = ops.convert_to_tensor(logits.predict_on_batch(image[None]), "float32")
            if self.output == "confidence":
                x = ops.softmax(x)
            x = ops.convert_to_numpy(x)[0]
            return x.argmax(-1) if self.output == "labels" else x

        return expected


def is_segmenter(model: keras.Model) -> bool:
    """Whether a model of this library labels pixels, not whole images."""
    return len(model.output_shape) == 4
