"""What a model costs."""

from keras_lrseg.analysis.profile import Profile, count_params, profile

__all__ = ["Profile", "count_params", "profile"]
