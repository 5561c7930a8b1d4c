"""SegFormer with Offset Learning: transformers' encoder, the authors' head.

The names of the head's weights are those of the authors' checkpoints. With
`offset=False` it is SegFormer as they train it: unlike transformers' head it
normalises each level.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .modules import conv_module, resize
from .offset_learning import OffsetLearning

DIMS = (32, 64, 160, 256)


class SegFormerHead(nn.Module):
    """Four levels to logits at stride 4, or 8 with Offset Learning."""

    def __init__(self, dims, dim, num_classes, offset):
        super().__init__()
        self.convs = nn.ModuleList([conv_module(d, dim, "bn") for d in dims])
        self.fusion_conv = conv_module(len(dims) * dim, dim, "bn")
        if offset:
            self.offset_learning = OffsetLearning(dim, num_classes)
        else:
            self.conv_seg = nn.Conv2d(dim, num_classes, 1)
        self.offset = offset

    def forward(self, features):
        size = features[0].shape[2:]
        levels = zip(self.convs, features, strict=True)
        levels = [resize(conv(x), size) for conv, x in levels]
        x = self.fusion_conv(torch.cat(levels, dim=1))
        if not self.offset:
            return self.conv_seg(x)
        return self.offset_learning(F.max_pool2d(x, 2))


class SegFormer(nn.Module):
    """SegFormer-B0: images (B, 3, H, W) to logits."""

    def __init__(self, num_classes, offset):
        super().__init__()
        from transformers import SegformerConfig, SegformerModel

        self.backbone = SegformerModel(SegformerConfig(hidden_sizes=DIMS))
        self.decode_head = SegFormerHead(DIMS, 256, num_classes, offset)

    def forward(self, images):
        features = self.backbone(images, output_hidden_states=True).hidden_states
        return self.decode_head(features)
