"""Modules that several of the peers share; names of weights are MMSegmentation's."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import nn


def resize(x, size):
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def conv_module(dim_in, dim, norm):
    """1x1 convolution, normalization ("bn" or "gn", 32 groups) and ReLU."""
    conv = nn.Conv2d(dim_in, dim, 1, bias=False)
    norms = {"bn": nn.BatchNorm2d(dim), "gn": nn.GroupNorm(32, dim)}
    layers = {"conv": conv, norm: norms[norm], "act": nn.ReLU(inplace=True)}
    return nn.Sequential(OrderedDict(layers))
