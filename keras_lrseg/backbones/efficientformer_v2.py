"""EfficientFormerV2: convolutional feed-forwards, then attention on small maps.

Paper: Li et al., "Rethinking Vision Transformers for MobileNet Size and Speed", ICCV
2023; variants in the authors' code, with the drop path that they train with. The
backbone of OffSeg (ICCV 2025), which learns its attention biases for 512×512 images.

Deviations: any image size is taken (OffSeg's code needs multiples of 32, the original
one the size that it was built for); biases of convolutions start at zero. As in OffSeg:
no norms on the outputs.
"""

import keras
import numpy as np

from keras_lrseg.backbones.inputs import check_input_shape
from keras_lrseg.backbones.pyramid import PyramidBackbone
from keras_lrseg.layers import (
    AttentionDownsampling,
    ConvolutionNorm,
    EfficientFormerBlock,
    gelu,
)

VARIANTS = {
    "S0": {
        "channels": (32, 48, 96, 176),
        "expansion_ratios": (
            (4,) * 2,
            (4,) * 2,
            (4, 3, 3, 3, 4, 4),
            (4, 3, 3, 4),
        ),
        "attention_blocks": 2,
        "drop_path_rate": 0.0,
    },
    "S1": {
        "channels": (32, 48, 120, 224),
        "expansion_ratios": (
            (4,) * 3,
            (4,) * 3,
            (4, 4, 3, 3, 3, 3, 4, 4, 4),
            (4, 4, 3, 3, 4, 4),
        ),
        "attention_blocks": 2,
        "drop_path_rate": 0.0,
    },
    "S2": {
        "channels": (32, 64, 144, 288),
        "expansion_ratios": (
            (4,) * 4,
            (4,) * 4,
            (4, 4, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4),
            (4, 4, 3, 3, 3, 3, 4, 4),
        ),
        "attention_blocks": 4,
        "drop_path_rate": 0.02,
    },
    "L": {
        "channels": (40, 80, 192, 384),
        "expansion_ratios": (
            (4,) * 5,
            (4,) * 5,
            (4, 4, 4, 4, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4),
            (4, 4, 4, 3, 3, 3, 3, 4, 4, 4),
        ),
        "attention_blocks": 6,
        "drop_path_rate": 0.1,
    },
}


@keras.saving.register_keras_serializable(package="keras_lrseg")
class EfficientFormerV2Backbone(PyramidBackbone):
    """EfficientFormerV2's backbone: images to a pyramid of features.

    Every halving of a map rounds up. Attention in stage 3 works on a map halved once
    more, whose result is resized bilinearly to exactly the size of the stage's map.

    Args:
        channels: widths of the four stages.
        expansion_ratios: for each of the four stages, the ratio of each block's
            feed-forward; their number is the stage's depth.
        attention_blocks: blocks with attention at the end of stages 3 and 4.
        resolution: side in pixels of the square images that the tables of attention
            biases are for: 512 for segmentation, 224 for ImageNet. At other sizes the
            biases are resized bicubically.
        drop_path_rate: of the last block; it rises linearly from 0 over all blocks.
        layer_scale: initial value.
        input_shape: (height, width, 3); None for an unknown size.

    Input: images (B, H, W, 3), normalised with ImageNet's mean and standard deviation;
    H and W are at least 32.

    Output: dict "P2", "P3", "P4", "P5" of features (B, ceil(H/s), ceil(W/s), C) with
    strides s = 4, 8, 16, 32. `pyramid_outputs` holds them as symbolic tensors, the
    contract of KerasHub's `FeaturePyramidBackbone`; `pyramid_level_inputs` names the
    layers that make them, as KerasCV asks.

    Raises:
        ValueError: if a stage that needs attention has too few blocks.

    Example:

    >>> backbone = EfficientFormerV2Backbone(**VARIANTS["S1"])
    >>> backbone(keras.ops.zeros((1, 480, 640, 3)))["P5"].shape
    (1, 15, 20, 224)
    """

    def __init__(
        self,
        channels,
        expansion_ratios,
        attention_blocks=2,
        resolution=512,
        drop_path_rate=0.0,
        layer_scale=1e-5,
        input_shape=(None, None, 3),
        name="efficientformer_v2_backbone",
        dtype=None,
    ):
        dtype = keras.dtype_policies.get(dtype)
        input_shape = check_input_shape(input_shape)
        depths = [len(ratios) for ratios in expansion_ratios]
        if min(depths[2:]) < attention_blocks:
            raise ValueError(
                "attention_blocks expects at most as many blocks as stages 3 and 4 "
                f"have, {min(depths[2:])}. Received: {attention_blocks}"
            )
        sides = [-(-resolution // stride) for stride in (4, 8, 16, 32)]

        # === Layers ===
        stages = _downsamplings(channels, sides[2], dtype)
        rates = iter(np.linspace(0, drop_path_rate, sum(depths)).tolist())
        for i, ratios in enumerate(expansion_ratios):
            first = depths[i] - attention_blocks if i >= 2 else depths[i]
            for j, ratio in enumerate(ratios):
                attention = {"resolution": sides[i], "strides": 2 if i == 2 else 1}
                block = EfficientFormerBlock(
                    ratio,
                    **(attention if j >= first else {}),
                    drop_path_rate=next(rates),
                    layer_scale=layer_scale,
                    name=f"stage{i + 1}_block{j}",
                    dtype=dtype,
                )
                stages[i].append(block)

        # === Functional Model ===
        images = keras.Input(input_shape, name="images")
        x, features = images, []
        for layers in stages:
            for layer in layers:
                x = layer(x)
            features.append(x)

        # === Config ===
        settings = {
            "channels": tuple(channels),
            "expansion_ratios": tuple(map(tuple, expansion_ratios)),
            "attention_blocks": attention_blocks,
            "resolution": resolution,
            "drop_path_rate": drop_path_rate,
            "layer_scale": layer_scale,
            "input_shape": input_shape,
        }
        super().__init__(
            images,
            features,
            [layers[-1].name for layers in stages],
            settings,
            name,
            dtype,
        )


def _downsamplings(channels, resolution, dtype):
    """The layers in front of the blocks of each stage; `resolution` is stage 3's."""
    settings = {"kernel_size": 3, "strides": 2, "use_bias": True, "dtype": dtype}
    half, first, second, third, fourth = channels[0] // 2, *channels
    return [
        [
            ConvolutionNorm(half, activation=gelu, name="stem1", **settings),
            ConvolutionNorm(first, activation=gelu, name="stem2", **settings),
        ],
        [ConvolutionNorm(second, name="downsampling2", **settings)],
        [ConvolutionNorm(third, name="downsampling3", **settings)],
        [AttentionDownsampling(fourth, resolution, name="downsampling4", dtype=dtype)],
    ]
