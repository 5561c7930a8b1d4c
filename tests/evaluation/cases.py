"""What is compared with mmsegmentation: the same cases for it and for us.

`ours()` and, in tools/check_mmseg.py, `theirs()` compute arrays of the same names;
every image and mask is drawn from a seed.
"""

import numpy as np

from keras_lrseg import evaluation
from keras_lrseg.evaluation.resize import resize_image

K = 5
SLIDES = {
    "slide": ((70, 93), (48, 40), (30, 25)),
    "slide_low": ((40, 93), (48, 40), (48, 40)),
    "slide_one": ((32, 35), (48, 40), (30, 25)),
    "slide_exact": ((64, 96), (32, 48), (16, 16)),
}
MIRRORED = ((47, 61), {"scales": (0.75, 1.0, 1.5), "flip": True})
ALIGNED = ((150, 200), {"short_side": 112, "long_side": 448, "align": 32})
MASKS = ((31, 45), (20, 64), (50, 33))


class Blocks:
    """A segmenter of means over 4×4 pixels, whose logits tell where in a window it is.

    Input: images (1, H, W, 3). Output: float32 (1, H/4, W/4, 5), rounded up.
    """

    output_shape = (None, None, None, K)

    def __init__(self):
        self.sizes = []  # of the images it has seen

    def predict_on_batch(self, images):
        self.sizes.append(images.shape[1:3])
        x = images[0].astype("float32") / 255
        height, width = (-(-n // 4) for n in x.shape[:2])
        padding = [(0, 4 * height - x.shape[0]), (0, 4 * width - x.shape[1]), (0, 0)]
        x = np.pad(x, padding, "edge")
        x = x.reshape(height, 4, width, 4, 3).mean(axis=(1, 3))  # (h, w, 3)
        rng = np.random.default_rng(1)
        matrix, slopes = rng.normal(size=(3, K)), rng.normal(size=(2, K))
        logits = 3 * (x - 0.5) @ matrix
        logits = logits + np.linspace(0, 1, height)[:, None, None] * slopes[0]
        logits = logits + np.linspace(0, 1, width)[:, None] * slopes[1]
        return logits[None].astype("float32")


def picture(size):
    """A uint8 image of soft patches."""
    rng = np.random.default_rng(size)
    cells = rng.integers(0, 256, (size[0] // 8 + 2, size[1] // 8 + 2, 3), "uint8")
    return resize_image(cells, size)


def pairs():
    """Truth and prediction of three images; class 4 is nowhere, 3 only predicted."""
    rng = np.random.default_rng(2)
    for size in MASKS:
        truth = rng.choice([0, 1, 2, 255], size).astype("uint8")
        wrong = rng.integers(0, 4, size)
        predicted = np.where(rng.random(size) < 0.4, wrong, truth % 3)
        yield truth, predicted.astype("uint8")


def ours():
    """The cases' results as keras_lrseg computes them, by name."""
    results, model = {}, Blocks()
    for name, (size, window, stride) in SLIDES.items():
        settings = evaluation.TestSettings(window=window, stride=stride)
        results[name] = evaluation.predict_logits(model, picture(size), settings)
    size, options = ALIGNED
    settings = evaluation.TestSettings(**options)
    results["aligned"] = evaluation.predict_logits(model, picture(size), settings)
    size, options = MIRRORED
    settings = evaluation.TestSettings(**options)
    results["mirrored"] = evaluation.predict_labels(model, picture(size), settings)
    scores = evaluation.Scores(
        sum(evaluation.confusion_matrix(*pair, K) for pair in pairs()), tuple("abcde")
    )
    results["iou"], results["accuracy"] = scores.iou, scores.accuracy
    results["means"] = np.array(
        [scores.miou, scores.mean_accuracy, scores.pixel_accuracy]
    )
    return results
