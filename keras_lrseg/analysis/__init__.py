"""What a model costs, and pictures of what it does."""

from keras_lrseg.analysis.class_representations import (
    MinedRepresentations,
    ideal_representations,
    mine_class_representations,
)
from keras_lrseg.analysis.figures import (
    contact_picture,
    contact_sheet,
    training_curve,
)
from keras_lrseg.analysis.profile import Profile, count_params, profile
from keras_lrseg.analysis.similarity_figures import similarity_maps, similarity_matrices

__all__ = [
    "MinedRepresentations",
    "Profile",
    "contact_picture",
    "contact_sheet",
    "count_params",
    "ideal_representations",
    "mine_class_representations",
    "profile",
    "similarity_maps",
    "similarity_matrices",
    "training_curve",
]
