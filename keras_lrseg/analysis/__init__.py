"""What a model costs, and pictures of what it does."""

from keras_lrseg.analysis.figures import contact_sheet
from keras_lrseg.analysis.profile import Profile, count_params, profile

__all__ = ["Profile", "contact_sheet", "count_params", "profile"]
