"""What all models of images have in common."""

import keras
import numpy as np

from keras_lrseg.backbones.inputs import check_images

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # of RGB values in 0..255
IMAGENET_STD = (58.395, 57.12, 57.375)


@keras.saving.register_keras_serializable(package="keras_lrseg")
class ImageModel(keras.Model):
    """A functional model of one input, images (B, H, W, 3) of at least 32×32 pixels.

    Under PyTorch `compile(jit_compile=True)` takes Keras out of the training: the first
    step notes down the operators of the model, once for each shape of the images, and
    the others run them alone. Keras's own way there, `torch.compile`, is slower than
    none. The layers of this package give equal results. Of layers of your own it does
    not see what has a gradient of its own or none (`torch.no_grad`), and settings that
    are changed after the first step.
    """

    traced_call = None  # in place of `call_layers`, during a step under PyTorch

    def make_train_function(self, force=False):
        made = self.train_function is not None and not force
        super().make_train_function(force)
        if keras.config.backend() == "torch" and self.jit_compile and not made:
            from keras_lrseg.models.traced_step import TracedStep

            self.train_function = TracedStep(self, self.train_function)

    def _should_torch_compile(self):
        return False  # Keras asks before it takes `torch.compile`

    def call(self, inputs, training=None, mask=None):
        check_images(inputs)
        if training and mask is None and self.traced_call is not None:
            (images,) = keras.tree.flatten(inputs)
            return self.traced_call(images)
        return self.call_layers(inputs, training=training, mask=mask)

    def call_layers(self, inputs, training=None, mask=None):
        """What `call` does with images that it can take."""
        return super().call(inputs, training=training, mask=mask)

    def quantize(self, *_, **__):
        """Refused: Keras's leaves a model that its configuration does not describe."""
        raise ValueError(
            f"{type(self).__name__}.quantize would make a model that cannot be saved "
            'and loaded. Type keras_lrseg.export.export_tflite(..., precision="int8").'
        )


def activation_name(activation):
    """Return a function's name, as a configuration holds it; None for none."""
    if activation is None:
        return None
    return keras.activations.serialize(keras.activations.get(activation))


def check_names(num_classes, classes, palette=None) -> None:
    """Raise a ValueError unless there is a name, and a colour, for each class."""
    given = classes is not None
    if isinstance(classes, str) or (given and len(classes) != num_classes):
        raise ValueError(
            f"classes expects {num_classes} names, or None. Received: {classes!r}"
        )
    if palette is not None and np.shape(palette) != (num_classes, 3):
        raise ValueError(
            f"palette expects colours of the shape ({num_classes}, 3), or None. "
            f"Received: the shape {np.shape(palette)}"
        )


def from_parts(cls, config, names):
    """Return the model of a configuration whose parts are serialised.

    A part that was frozen is frozen again, with the layers that it has made since.
    """
    parts = {
        name: keras.saving.deserialize_keras_object(config[name]) for name in names
    }
    model = cls(**{**config, **parts})
    for part in parts.values():
        if not part.trainable:
            part.trainable = False
    return model


def make_preprocessing():
    """Return the layer that normalises RGB 0..255 with ImageNet's mean and deviation.

    Float32 whatever the policy: half precision keeps too little of 0..255.
    """
    return keras.layers.Normalization(
        mean=IMAGENET_MEAN,
        variance=[std**2 for std in IMAGENET_STD],
        dtype="float32",
        name="preprocessing",
    )


def pyramid_model(backbone):
    """Return a model whose output is the backbone's dict of features."""
    if isinstance(getattr(backbone, "output", None), dict):
        return backbone
    if hasattr(backbone, "pyramid_outputs"):
        return keras.Model(backbone.input, backbone.pyramid_outputs)
    raise ValueError(
        "backbone expects a model with `pyramid_outputs`, a dict of features such as "
        f'{{"P2": ..., "P5": ...}}. Received: {backbone}'
    )
