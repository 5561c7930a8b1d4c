"""Mix Transformer, SegFormer's backbone.

Paper: Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation
with Transformers", NeurIPS 2021; architecture in section 3.1, variants in the
appendix's Table 6.

The published weights of NVIDIA are for non-commercial use.
"""

import keras
import numpy as np

from keras_lrseg.backbones.inputs import check_input_shape
from keras_lrseg.backbones.pyramid import PyramidBackbone
from keras_lrseg.layers import MixTransformerStage

# Widths and depths of the four stages.
VARIANTS = {
    "B0": {"channels": (32, 64, 160, 256), "depths": (2, 2, 2, 2)},
    "B1": {"channels": (64, 128, 320, 512), "depths": (2, 2, 2, 2)},
    "B2": {"channels": (64, 128, 320, 512), "depths": (3, 4, 6, 3)},
    "B3": {"channels": (64, 128, 320, 512), "depths": (3, 4, 18, 3)},
    "B4": {"channels": (64, 128, 320, 512), "depths": (3, 8, 27, 3)},
    "B5": {"channels": (64, 128, 320, 512), "depths": (3, 6, 40, 3)},
}


@keras.saving.register_keras_serializable(package="keras_lrseg")
class MixTransformerBackbone(PyramidBackbone):
    """Mix Transformer: images to a pyramid of features.

    Args:
        channels: widths of the four stages.
        depths: numbers of blocks of the four stages.
        num_heads: attention heads of the four stages.
        reductions: sides of the patches that are a key/value in the four stages.
        expansion_ratio: of the feed-forwards.
        drop_path_rate: of the last block; it rises linearly from 0 over all blocks.
        epsilon: of the layer normalizations. The authors' code and MMSegmentation
            compute with 1e-6, Hugging Face's transformers with 1e-5.
        input_shape: (height, width, 3); None for an unknown size.

    Input: images (B, H, W, 3), normalised with ImageNet's mean and standard deviation;
    H and W are at least 32.

    Output: dict "P2", "P3", "P4", "P5" of features (B, ceil(H/s), ceil(W/s), C) with
    strides s = 4, 8, 16, 32. `pyramid_outputs` holds them as symbolic tensors, the
    contract of KerasHub's `FeaturePyramidBackbone`; `pyramid_level_inputs` names the
    layers that make them, as KerasCV asks.

    Example:

    >>> backbone = MixTransformerBackbone(**VARIANTS["B0"])
    >>> backbone(keras.ops.zeros((1, 480, 640, 3)))["P5"].shape
    (1, 15, 20, 256)
    """

    def __init__(
        self,
        channels,
        depths,
        num_heads=(1, 2, 5, 8),
        reductions=(8, 4, 2, 1),
        expansion_ratio=4,
        drop_path_rate=0.1,
        epsilon=1e-6,
        input_shape=(None, None, 3),
        name="mix_transformer_backbone",
        dtype=None,
    ):
        dtype = keras.dtype_policies.get(dtype)
        input_shape = check_input_shape(input_shape)

        # === Layers ===
        ends = np.cumsum(depths).tolist()
        rates = np.linspace(0, drop_path_rate, ends[-1]).tolist()
        stages = [
            MixTransformerStage(
                channels=channels[i],
                depth=depths[i],
                num_heads=num_heads[i],
                reduction=reductions[i],
                kernel_size=7 if i == 0 else 3,
                strides=4 if i == 0 else 2,
                expansion_ratio=expansion_ratio,
                drop_path_rates=rates[ends[i] - depths[i] : ends[i]],
                epsilon=epsilon,
                name=f"stage{i + 1}",
                dtype=dtype,
            )
            for i in range(4)
        ]

        # === Functional Model ===
        images = keras.Input(input_shape, name="images")
        x, features = images, []
        for stage in stages:
            x = stage(x)
            features.append(x)

        # === Config ===
        settings = {
            "channels": tuple(channels),
            "depths": tuple(depths),
            "num_heads": tuple(num_heads),
            "reductions": tuple(reductions),
            "expansion_ratio": expansion_ratio,
            "drop_path_rate": drop_path_rate,
            "epsilon": epsilon,
            "input_shape": input_shape,
        }
        super().__init__(
            images, features, [stage.name for stage in stages], settings, name, dtype
        )
