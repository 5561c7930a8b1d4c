"""MSCAN, SegNeXt's backbone: a pyramid of multi-scale convolutional attention.

Paper: Guo et al., "SegNeXt: Rethinking Convolutional Attention Design for Semantic
Segmentation", NeurIPS 2022; variants in Table 2.

Any image size is taken. Convolutions start as in the authors' code: normal with
deviation √(2/fan_out), biases at zero.
"""

import keras
import numpy as np

from keras_lrseg.backbones.inputs import check_input_shape
from keras_lrseg.backbones.pyramid import PyramidBackbone
from keras_lrseg.layers import ConvolutionNorm, MSCABlock, gelu
from keras_lrseg.layers.convolution import kaiming_normal

# Table 2; drop path as the authors train segmentation.
VARIANTS = {
    "T": {
        "channels": (32, 64, 160, 256),
        "depths": (3, 3, 5, 2),
        "drop_path_rate": 0.1,
    },
    "S": {
        "channels": (64, 128, 320, 512),
        "depths": (2, 2, 4, 2),
        "drop_path_rate": 0.1,
    },
    "B": {
        "channels": (64, 128, 320, 512),
        "depths": (3, 3, 12, 3),
        "drop_path_rate": 0.1,
    },
    "L": {
        "channels": (64, 128, 320, 512),
        "depths": (3, 5, 27, 3),
        "drop_path_rate": 0.3,
    },
}


@keras.saving.register_keras_serializable(package="keras_lrseg")
class MSCANBackbone(PyramidBackbone):
    """MSCAN: images to a pyramid of features.

    Args:
        channels: widths of the four stages; the first is even.
        depths: numbers of blocks of the four stages.
        expansion_ratios: of the feed-forwards of the four stages.
        drop_path_rate: of the last block; it rises linearly from 0 over all blocks.
        layer_scale: initial value.
        input_shape: (height, width, 3); None for an unknown size.

    Input: images (B, H, W, 3), normalised with ImageNet's mean and standard deviation;
    H and W are at least 32.

    Output: dict "P2", "P3", "P4", "P5" of features (B, ceil(H/s), ceil(W/s), C) with
    strides s = 4, 8, 16, 32. `pyramid_outputs` holds them as symbolic tensors, the
    contract of KerasHub's `FeaturePyramidBackbone`; `pyramid_level_inputs` names the
    layers that make them, as KerasCV asks.

    Example:

    >>> backbone = MSCANBackbone(**VARIANTS["T"])
    >>> backbone(keras.ops.zeros((1, 480, 640, 3)))["P5"].shape
    (1, 15, 20, 256)
    """

    def __init__(
        self,
        channels,
        depths,
        expansion_ratios=(8, 8, 4, 4),
        drop_path_rate=0.0,
        layer_scale=1e-2,
        input_shape=(None, None, 3),
        name="mscan_backbone",
        dtype=None,
    ):
        dtype = keras.dtype_policies.get(dtype)
        input_shape = check_input_shape(input_shape)
        rates = iter(np.linspace(0, drop_path_rate, sum(depths)).tolist())

        def downsampling(width, name, activation=None):
            return ConvolutionNorm(
                width,
                kernel_size=3,
                strides=2,
                activation=activation,
                use_bias=True,
                kernel_initializer=kaiming_normal(),
                name=name,
                dtype=dtype,
            )

        # === Functional Model ===
        images = keras.Input(input_shape, name="images")
        x = downsampling(channels[0] // 2, "embedding0", gelu)(images)
        features = []
        for i in (1, 2, 3, 4):
            x = downsampling(channels[i - 1], f"embedding{i}")(x)
            for j in range(depths[i - 1]):
                block = MSCABlock(
                    expansion_ratio=expansion_ratios[i - 1],
                    drop_path_rate=next(rates),
                    layer_scale=layer_scale,
                    name=f"stage{i}_block{j}",
                    dtype=dtype,
                )
                x = block(x)
            x = keras.layers.LayerNormalization(
                epsilon=1e-5, name=f"norm{i}", dtype=dtype
            )(x)
            features.append(x)

        # === Config ===
        settings = {
            "channels": tuple(channels),
            "depths": tuple(depths),
            "expansion_ratios": tuple(expansion_ratios),
            "drop_path_rate": drop_path_rate,
            "layer_scale": layer_scale,
            "input_shape": input_shape,
        }
        super().__init__(
            images, features, [f"norm{i}" for i in (1, 2, 3, 4)], settings, name, dtype
        )
