import pytest

from keras_lrseg.layers import ConvolutionalStem, OverlappedPatchEmbedding
from tests.helpers import normal, refused, run
from tests.reference import assert_golden, load_layer, state_of


@pytest.mark.parametrize(
    ("case", "make", "key", "shape"),
    [
        ("stem_even", lambda: ConvolutionalStem(24, name="stem"), 1, (3, 32, 48)),
        ("stem_odd", lambda: ConvolutionalStem(24, name="stem"), 1, (3, 37, 53)),
        (
            "patch_embed2",
            lambda: OverlappedPatchEmbedding(48, name="embedding2"),
            2,
            (24, 16, 20),
        ),
    ],
)
def test_embedding_reproduces_the_authors_output(case, make, key, shape):
    x = normal(case, (1, *shape)).transpose(0, 2, 3, 1)
    layer = load_layer(make(), x.shape, "", state_of(f"backbone.patch_embed{key}."))
    y = run(layer, x)
    assert_golden(y.reshape(1, -1, y.shape[-1]), "layers.npz", case)


def test_stem_needs_an_even_number_of_channels():
    with refused("even", "channels=25"):
        ConvolutionalStem(25)
