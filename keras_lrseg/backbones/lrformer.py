"""LRFormer's backbone: a pyramid of low-resolution self-attention blocks.

Paper: Wu et al., "Low-Resolution Self-Attention for Semantic Segmentation",
TPAMI 2025; architecture in section 3.3, variants in Table 2.

Deviations: any image size is taken (the authors' code needs multiples of 32); biases of
convolutions start at zero. As in the authors' code, and not in the paper: no norm on
the outputs, and XL has batch norms in front of two blocks of its third stage.
"""

import keras
import numpy as np

from keras_lrseg.backbones.inputs import check_input_shape
from keras_lrseg.backbones.pyramid import PyramidBackbone
from keras_lrseg.layers import (
    ConvolutionalStem,
    LRFormerStage,
    OverlappedPatchEmbedding,
)

# Table 2; drop path as the authors train segmentation on ADE20K.
VARIANTS = {
    "T": {
        "channels": (48, 96, 240, 384),
        "depths": (2, 2, 6, 3),
        "drop_path_rate": 0.1,
    },
    "S": {
        "channels": (64, 128, 320, 512),
        "depths": (3, 3, 12, 3),
        "drop_path_rate": 0.2,
    },
    "B": {
        "channels": (80, 160, 400, 512),
        "depths": (4, 4, 15, 8),
        "drop_path_rate": 0.4,
    },
    "L": {
        "channels": (96, 192, 480, 640),
        "depths": (4, 6, 18, 8),
        "drop_path_rate": 0.6,
    },
    "XL": {
        "channels": (128, 256, 640, 768),
        "depths": (4, 8, 22, 8),
        "drop_path_rate": 0.4,
        "pre_norm_blocks": ((), (), (7, 15), ()),
    },
}


@keras.saving.register_keras_serializable(package="keras_lrseg")
class LRFormerBackbone(PyramidBackbone):
    """LRFormer's backbone: images to a pyramid of features.

    Args:
        channels: widths of the four stages.
        depths: numbers of blocks of the four stages.
        num_heads: attention heads of the four stages.
        expansion_ratios: of the feed-forwards of the four stages.
        pool_size: query cells along the shorter side (Table 7); 7 for ImageNet.
        drop_path_rate: of the last block; it rises linearly from 0 over all blocks.
        layer_scale: initial value in stages 3 and 4, or None for none.
        pre_norm_blocks: for each stage, the blocks with a batch norm in front.
        depthwise: the depthwise convolution in front of LRSA (Table 9).
        feed_forward_depthwise: the one in the feed-forward (Table 9).
        input_shape: (height, width, 3); None for an unknown size.

    Input: images (B, H, W, 3), normalised with ImageNet's mean and standard deviation;
    H and W are at least 32.

    Output: dict "P2", "P3", "P4", "P5" of features (B, ceil(H/s), ceil(W/s), C) with
    strides s = 4, 8, 16, 32. `pyramid_outputs` holds them as symbolic tensors, the
    contract of KerasHub's `FeaturePyramidBackbone`; `pyramid_level_inputs` names the
    layers that make them, as KerasCV asks.

    Example:

    >>> backbone = LRFormerBackbone(**VARIANTS["T"])
    >>> backbone(keras.ops.zeros((1, 480, 640, 3)))["P5"].shape
    (1, 15, 20, 384)
    """

    def __init__(
        self,
        channels,
        depths,
        num_heads=(2, 4, 10, 16),
        expansion_ratios=(8, 8, 4, 4),
        pool_size=16,
        drop_path_rate=0.0,
        layer_scale=1e-6,
        pre_norm_blocks=((), (), (), ()),
        depthwise=True,
        feed_forward_depthwise=True,
        input_shape=(None, None, 3),
        name="lrformer_backbone",
        dtype=None,
    ):
        dtype = keras.dtype_policies.get(dtype)
        input_shape = check_input_shape(input_shape)

        # === Layers ===
        ends = np.cumsum(depths).tolist()
        rates = np.linspace(0, drop_path_rate, ends[-1]).tolist()
        embeddings = [ConvolutionalStem(channels[0], name="stem", dtype=dtype)]
        embeddings += [
            OverlappedPatchEmbedding(width, name=f"embedding{i}", dtype=dtype)
            for i, width in enumerate(channels[1:], 2)
        ]
        stages = [
            LRFormerStage(
                depth=depths[i],
                num_heads=num_heads[i],
                pool_size=pool_size,
                expansion_ratio=expansion_ratios[i],
                layer_scale=layer_scale if i >= 2 else None,
                drop_path_rates=rates[ends[i] - depths[i] : ends[i]],
                pre_norm_blocks=pre_norm_blocks[i],
                depthwise=depthwise,
                feed_forward_depthwise=feed_forward_depthwise,
                name=f"stage{i + 1}",
                dtype=dtype,
            )
            for i in range(4)
        ]

        # === Functional Model ===
        images = keras.Input(input_shape, name="images")
        x, features = images, []
        for i in range(4):
            x = stages[i](embeddings[i](x))
            features.append(x)

        # === Config ===
        settings = {
            "channels": tuple(channels),
            "depths": tuple(depths),
            "num_heads": tuple(num_heads),
            "expansion_ratios": tuple(expansion_ratios),
            "pool_size": pool_size,
            "drop_path_rate": drop_path_rate,
            "layer_scale": layer_scale,
            "pre_norm_blocks": tuple(tuple(blocks) for blocks in pre_norm_blocks),
            "depthwise": depthwise,
            "feed_forward_depthwise": feed_forward_depthwise,
            "input_shape": input_shape,
        }
        super().__init__(
            images, features, [stage.name for stage in stages], settings, name, dtype
        )
