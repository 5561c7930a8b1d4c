"""The levels of a pyramid that a decoder reads, checked before the maths."""


def check_levels(pyramid, levels, name):
    """Raise ValueError if a pyramid (a dict) lacks one of the levels."""
    if not isinstance(pyramid, dict) or not set(levels) <= set(pyramid):
        came = sorted(pyramid) if isinstance(pyramid, dict) else type(pyramid).__name__
        raise ValueError(
            f"{name} expects a dict of features with the levels {list(levels)}, as "
            f"`backbone.pyramid_outputs` holds them. Received: {came}"
        )
