"""Offset Learning in plain PyTorch, as equations (4)-(13) of the paper write it.

"Revisiting Efficient Semantic Segmentation: Learning Offsets for Better Spatial and
Class Feature Alignment", ICCV 2025. For N pixels, K classes and C channels it makes
4·N·K·C + N·C² products.
"""

import torch
from torch import nn


class OffsetLearning(nn.Module):
    """Features (B, C, H, W) to logits (B, K, H, W)."""

    def __init__(self, dim, num_classes):
        super().__init__()
        self.cls_repr = nn.Parameter(torch.empty(1, num_classes, dim))
        self.cls_offset_proj = nn.Linear(dim, dim, bias=False)
        self.feat_offset_proj = nn.Linear(dim, dim, bias=False)
        self.mask_norm = nn.LayerNorm(num_classes)
        linear = (self.cls_offset_proj, self.feat_offset_proj)
        for weight in (self.cls_repr, *(layer.weight for layer in linear)):
            nn.init.trunc_normal_(weight, std=0.02)

    def forward(self, x):
        size = x.shape[2:]
        pixels = x.flatten(2).transpose(1, 2)  # (B, N, C)
        classes = self.cls_repr  # (1, K, C)
        affinity = classes @ pixels.transpose(1, 2)  # (B, K, N)
        class_offset = affinity.softmax(dim=2) @ pixels  # (B, K, C)
        pixel_offset = affinity.softmax(dim=1).transpose(1, 2) @ classes  # (B, N, C)
        classes = classes + self.cls_offset_proj(class_offset)
        pixels = pixels + self.feat_offset_proj(pixel_offset)
        logits = self.mask_norm(pixels @ classes.transpose(1, 2))  # (B, N, K)
        return logits.transpose(1, 2).unflatten(2, size)
