"""Random numbers that need nothing from the processor."""

import math

import keras


def uniform(shape, seed_generator=None):
    """Return float32 numbers in [0, 1), other ones at each call.

    What `keras.random.uniform` gives, but under PyTorch: there Keras reads the state of
    the generator as a number of Python, for which the processor waits until the GPU
    has done all that it was given, at every layer that drops something.

    Args:
        shape: of integers.
        seed_generator: a `keras.random.SeedGenerator`; None: Keras's own.
    """
    if keras.config.backend() == "torch" and seed_generator is not None:
        return _torch_uniform(shape, seed_generator.state)
    return keras.random.uniform(shape, dtype="float32", seed=seed_generator)


def _torch_uniform(shape, state):
    """A hash of the state and of each number's index."""
    import torch

    first, second = state.value.to(torch.int64)
    state.assign(torch.stack([first, second + 1]))  # as `SeedGenerator.next` does
    key = _hash(_hash(first) ^ _hash(second + 0x9E3779B9))  # not one cycle for all
    index = torch.arange(math.prod(shape), device=first.device)
    numbers = _hash(_hash(index) ^ key) >> 8  # as many bits as float32 keeps
    return (numbers.float() / 2**24).reshape(shape)


def _hash(x):
    """The finalizer of MurmurHash3, of the lower 32 bits of int64."""
    x = x & 0xFFFFFFFF
    x = (x ^ x >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    x = (x ^ x >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return x ^ x >> 16
