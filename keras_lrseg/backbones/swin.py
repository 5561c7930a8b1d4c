"""Swin Transformer, the backbone of Mask2Former.

Paper: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted
Windows", ICCV 2021; variants in section 3.3. Every stage ends in a layer normalization
of its own, as for dense prediction in MMDetection and Mask2Former.

Mask2Former's B and L have windows of 12 and start from ImageNet at 384×384. The
published weights of Microsoft are under the MIT licence.
"""

import keras
import numpy as np

from keras_lrseg.backbones.inputs import check_input_shape
from keras_lrseg.backbones.pyramid import PyramidBackbone
from keras_lrseg.layers.swin import PatchEmbedding, PatchMerging, SwinBlock

VARIANTS = {
    "T": {
        "channels": (96, 192, 384, 768),
        "depths": (2, 2, 6, 2),
        "num_heads": (3, 6, 12, 24),
        "window_size": 7,
    },
    "S": {
        "channels": (96, 192, 384, 768),
        "depths": (2, 2, 18, 2),
        "num_heads": (3, 6, 12, 24),
        "window_size": 7,
    },
    "B": {
        "channels": (128, 256, 512, 1024),
        "depths": (2, 2, 18, 2),
        "num_heads": (4, 8, 16, 32),
        "window_size": 12,
    },
    "L": {
        "channels": (192, 384, 768, 1536),
        "depths": (2, 2, 18, 2),
        "num_heads": (6, 12, 24, 48),
        "window_size": 12,
    },
}


@keras.saving.register_keras_serializable(package="keras_lrseg")
class SwinBackbone(PyramidBackbone):
    """Swin Transformer: images to a pyramid of features.

    Args:
        channels: widths of the four stages.
        depths: numbers of blocks of the four stages; every second block of a stage
            shifts its windows.
        num_heads: attention heads of the four stages.
        window_size: side of the attention windows. A map smaller than a window is
            filled up with zeros.
        expansion_ratio: of the feed-forwards.
        drop_path_rate: of the last block; it rises linearly from 0 over all blocks.
        epsilon: of all layer normalizations.
        input_shape: (height, width, 3); None for an unknown size.

    Input: images (B, H, W, 3), normalised with ImageNet's mean and standard deviation;
    H and W are at least 32.

    Output: dict "P2", "P3", "P4", "P5" of features (B, ceil(H/s), ceil(W/s), C) with
    strides s = 4, 8, 16, 32. `pyramid_outputs` holds them as symbolic tensors, the
    contract of KerasHub's `FeaturePyramidBackbone`; `pyramid_level_inputs` names the
    layers that make them, as KerasCV asks.

    Example:

    >>> backbone = SwinBackbone(**VARIANTS["T"])
    >>> backbone(keras.ops.zeros((1, 480, 640, 3)))["P5"].shape
    (1, 15, 20, 768)
    """

    def __init__(
        self,
        channels,
        depths,
        num_heads,
        window_size=7,
        expansion_ratio=4,
        drop_path_rate=0.3,
        epsilon=1e-5,
        input_shape=(None, None, 3),
        name="swin_backbone",
        dtype=None,
    ):
        dtype = keras.dtype_policies.get(dtype)
        input_shape = check_input_shape(input_shape)
        settings = {"epsilon": epsilon, "dtype": dtype}
        rates = iter(np.linspace(0, drop_path_rate, sum(depths)).tolist())

        # === Functional Model ===
        images = keras.Input(input_shape, name="images")
        x = PatchEmbedding(channels[0], name="embedding", **settings)(images)
        features = []
        for i in (1, 2, 3, 4):
            if i > 1:
                x = PatchMerging(channels[i - 1], name=f"merging{i}", **settings)(x)
            for j in range(depths[i - 1]):
                block = SwinBlock(
                    num_heads[i - 1],
                    window_size,
                    shift=window_size // 2 if j % 2 else 0,
                    expansion_ratio=expansion_ratio,
                    drop_path_rate=next(rates),
                    name=f"stage{i}_block{j}",
                    **settings,
                )
                x = block(x)
            norm = keras.layers.LayerNormalization(name=f"norm{i}", **settings)
            features.append(norm(x))

        # === Config ===
        settings = {
            "channels": tuple(channels),
            "depths": tuple(depths),
            "num_heads": tuple(num_heads),
            "window_size": window_size,
            "expansion_ratio": expansion_ratio,
            "drop_path_rate": drop_path_rate,
            "epsilon": epsilon,
            "input_shape": input_shape,
        }
        names = [f"norm{i}" for i in (1, 2, 3, 4)]
        super().__init__(images, features, names, settings, name, dtype)
