"""Compares the evaluation with mmsegmentation's on the same images, masks and logits.

Needs an environment of its own, for mmsegmentation's dependencies are old:

    python -m venv mmseg-env
    mmseg-env/bin/pip install --editable '.[torch,data]'
    mmseg-env/bin/pip install mmsegmentation==1.2.2 mmengine==0.10.7 \\
        mmcv-lite==2.1.0 ftfy regex "setuptools<81"

Example:
    KERAS_BACKEND=torch mmseg-env/bin/python tools/check_mmseg.py
    ... --write     also writes tests/golden/mmseg.npz

It prints the largest difference of every case and ends with 1 where one exceeds 1e-6.
"""

import argparse
import pathlib
import sys
import types

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "mmseg.npz"
TOLERANCE = 1e-6
STEP = 5  # every fifth row and column of a large result is kept

sys.path.insert(0, str(ROOT))
from keras_lrseg.evaluation.resize import resize_image  # noqa: E402
from tests.evaluation import cases  # noqa: E402


class NoOperators(types.ModuleType):
    """In place of mmcv's compiled operators, none of which is called here."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: None


def load():
    """Import mmsegmentation, or end with what to install."""
    sys.modules["mmcv._ext"] = NoOperators("mmcv._ext")
    try:
        import mmseg.models
    except ImportError as error:
        sys.exit(f"{error}\n\n{__doc__}")
    return mmseg


def segmentor(test_cfg):
    """mmsegmentation's EncoderDecoder around the cases' segmenter."""
    import torch
    from mmengine.config import ConfigDict
    from mmseg.models import EncoderDecoder
    from mmseg.models.utils import resize

    class Segmentor(EncoderDecoder):
        def __init__(self):
            torch.nn.Module.__init__(self)
            self.test_cfg = ConfigDict(test_cfg)
            self.align_corners = False
            self.out_channels = cases.K

        def encode_decode(self, inputs, batch_img_metas):
            images = inputs.permute(0, 2, 3, 1).numpy()
            logits = torch.from_numpy(cases.Blocks().predict_on_batch(images))
            size = inputs.shape[2:]
            return resize(logits.permute(0, 3, 1, 2), size, None, "bilinear", False)

    return Segmentor()


def predict(image, ori_shape, test_cfg, flip=False):
    """mmsegmentation's data sample for an image as its test pipeline leaves it."""
    import torch
    from mmseg.structures import SegDataSample

    model = segmentor(test_cfg)
    sample = SegDataSample()
    sample.set_metainfo(
        {
            "ori_shape": ori_shape,
            "img_shape": image.shape[:2],
            "flip": flip,
            "flip_direction": "horizontal" if flip else None,
            "img_path": "",
        }
    )
    inputs = torch.from_numpy(image.astype("float32").transpose(2, 0, 1)[None])
    logits = model.inference(inputs, [sample.metainfo])
    return model, model.postprocess_result(logits, [sample])[0]


def theirs():
    """The cases' results as mmsegmentation computes them, by name."""
    import mmcv
    import torch
    from mmseg.evaluation import IoUMetric
    from mmseg.models import SegTTAModel

    results = {}
    for name, (size, window, stride) in cases.SLIDES.items():
        config = {"mode": "slide", "crop_size": window, "stride": stride}
        _, sample = predict(cases.picture(size), size, config)
        results[name] = logits_of(sample)

    size, options = cases.ALIGNED
    limits = options["long_side"], options["short_side"]
    image = cases.picture(size)
    resized = mmcv.imrescale(image, limits)
    aligned = mmcv.imresize_to_multiple(resized, options["align"], scale_factor=1)
    same = resize_image(image, resized.shape[:2])  # the pixels that we see
    same = resize_image(same, aligned.shape[:2])
    difference = np.abs(same.astype(int) - aligned).max()
    print(f"{'pixels':12} {difference} of 255")
    _, sample = predict(same, size, {"mode": "whole"})
    results["aligned"] = logits_of(sample)

    size, options = cases.MIRRORED
    image, samples = cases.picture(size), []
    for scale in options["scales"]:
        limits = tuple(int(n * scale + 0.5) for n in size)
        width, height = mmcv.rescale_size(size[::-1], limits)
        scaled = resize_image(image, (height, width))
        for flip in (False, True):
            pixels = mmcv.imflip(scaled) if flip else scaled
            model, sample = predict(pixels, size, {"mode": "whole"}, flip)
            samples.append(sample)
    merged = SegTTAModel.merge_preds(types.SimpleNamespace(module=model), [samples])
    results["mirrored"] = merged[0].pred_sem_seg.data[0].numpy().astype("uint8")

    metric = IoUMetric(iou_metrics=["mIoU"])
    areas = [
        metric.intersect_and_union(*map(torch.tensor, (p, t)), cases.K, 255)
        for t, p in cases.pairs()
    ]
    areas = [sum(column) for column in zip(*areas, strict=True)]
    scores = metric.total_area_to_metrics(*areas, metrics=["mIoU"])
    results["iou"], results["accuracy"] = scores["IoU"], scores["Acc"]
    results["means"] = np.array(
        [np.nanmean(scores["IoU"]), np.nanmean(scores["Acc"]), scores["aAcc"]]
    )
    return results


def logits_of(sample):
    return sample.seg_logits.data.permute(1, 2, 0).numpy()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help=f"write {GOLDEN.name}")
    arguments = parser.parse_args()
    version = load().__version__
    print(f"mmsegmentation {version}")
    expected, wrong = theirs(), False
    for name, value in cases.ours().items():
        np.testing.assert_array_equal(np.isnan(value), np.isnan(expected[name]))
        difference = np.nanmax(np.abs(value.astype(float) - expected[name]))
        wrong |= not difference <= TOLERANCE
        print(f"{name:12} {difference:.1e}")
    if arguments.write:
        kept = {k: v[::STEP, ::STEP] if v.ndim > 1 else v for k, v in expected.items()}
        np.savez_compressed(GOLDEN, **kept)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
