"""A backbone with a classification head, as ImageNet trains it."""

import keras

from keras_lrseg.backbones.inputs import check_input_shape
from keras_lrseg.layers.arguments import as_integer
from keras_lrseg.models.image_model import (
    ImageModel,
    activation_name,
    check_names,
    from_parts,
    make_preprocessing,
)


@keras.saving.register_keras_serializable(package="keras_lrseg")
class ImageClassifier(ImageModel):
    """Backbone, head, global mean, linear map.

    Args:
        backbone: model from normalised images to a dict of features; "P5" is used.
        num_classes: number of labels, at least 2.
        head: layer from "P5" to the features that are averaged, for example a 1×1
            convolution or a batch norm.
        input_shape: (height, width, 3); None for an unknown size.
        include_preprocessing: take RGB in 0..255 and normalise it in the model.
        activation: None for logits, "softmax" for probabilities.
        classes: names of the labels; or None.

    Input: images (B, H, W, 3), uint8 or float. Output: float32 (B, num_classes).
    """

    def __init__(
        self,
        backbone,
        num_classes,
        head,
        input_shape=(None, None, 3),
        include_preprocessing=True,
        activation=None,
        classes=None,
        name="image_classifier",
        dtype=None,
    ):
        number = as_integer(num_classes)
        if number is None or number < 2:
            raise ValueError(
                "num_classes expects an integer from 2. "
                f"Received: num_classes={num_classes!r}"
            )
        num_classes, dtype = number, keras.dtype_policies.get(dtype)

        check_names(num_classes, classes)

        # === Layers ===
        pool = keras.layers.GlobalAveragePooling2D(
            data_format="channels_last", name="pool", dtype=dtype
        )
        classifier = keras.layers.Dense(num_classes, name="classifier", dtype=dtype)
        activate = keras.layers.Activation(
            activation, dtype="float32", name="activation"
        )

        # === Functional Model ===
        images = keras.Input(check_input_shape(input_shape), name="images")
        x = make_preprocessing()(images) if include_preprocessing else images
        x = head(backbone(x)["P5"])
        logits = classifier(pool(x))
        x = activate(logits)
        super().__init__(inputs=images, outputs=x, name=name)

        # === Config ===
        self.dtype_policy = dtype
        self.backbone = backbone
        self.head = head
        self.classifier = classifier
        self.logits = logits  # symbolic
        self.num_classes = num_classes
        self.include_preprocessing = include_preprocessing
        self.activation = activation_name(activation)
        self.classes = classes

    @property
    def parts(self) -> dict:
        """Backbone, head and classifier by these names."""
        return {
            "backbone": self.backbone,
            "head": self.head,
            "classifier": self.classifier,
        }

    def get_config(self):
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
            "head": keras.saving.serialize_keras_object(self.head),
            "input_shape": self.input_shape[1:],
            "include_preprocessing": self.include_preprocessing,
            "activation": self.activation,
            "classes": None if self.classes is None else list(self.classes),
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "train_classifier": self.classifier.trainable,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        trainable = config.pop("train_classifier", True)
        model = from_parts(cls, config, ("backbone", "head"))
        model.classifier.trainable = trainable
        return model
