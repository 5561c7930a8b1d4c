"""What all backbones are: functional models from images to a pyramid of features."""

import keras

from keras_lrseg.backbones.inputs import check_images


@keras.saving.register_keras_serializable(package="keras_lrseg")
class PyramidBackbone(keras.Model):
    """A functional model whose output is a dict of features, "P2" to "P5".

    `pyramid_outputs` holds them as symbolic tensors, the contract of KerasHub's
    `FeaturePyramidBackbone`; `pyramid_level_inputs` names the layers that make them, as
    KerasCV asks.

    Args:
        images: symbolic images (B, H, W, 3).
        features: the four levels, symbolic, from the finest one.
        names: of the layers that make them.
        settings: the arguments that make the same backbone again, but `name` and
            `dtype`.
        name, dtype: of the model.
    """

    def __init__(self, images, features, names, settings, name, dtype):
        levels = [f"P{i}" for i in range(2, 2 + len(features))]
        pyramid = dict(zip(levels, features, strict=True))
        super().__init__(inputs=images, outputs=pyramid, name=name)
        self.dtype_policy = dtype
        self.pyramid_outputs = pyramid
        self.pyramid_level_inputs = dict(zip(levels, names, strict=True))
        self.settings = settings

    def call(self, inputs, training=None, mask=None):
        check_images(inputs)
        return super().call(inputs, training=training, mask=mask)

    def get_config(self):
        return {
            **self.settings,
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "trainable": self.trainable,
            "frozen": [layer.name for layer in self.layers if not layer.trainable],
        }

    @classmethod
    def from_config(cls, config):
        settings = dict(config)
        trainable = settings.pop("trainable", True)
        frozen = settings.pop("frozen", ())
        model = cls(**settings)
        for name in frozen:
            model.get_layer(name).trainable = False
        if not trainable:
            model.trainable = False
        return model
