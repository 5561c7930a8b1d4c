"""The whole job on the land cover tiles that ship with the package.

    python recipes/demo.py --out demo-output
    python recipes/demo.py --model OffSegT --out demo-offseg

Trains a model from random weights, scores it on tiles it has not seen, draws a
contact sheet, exports a TFLite file and runs that on one tile. About ten minutes on two
CPU cores; no download. Expected: a validation mIoU near 0.65 of LRFormer-T and 0.74 of
OffSeg-T, where answering "water" everywhere gives 0.10. Any backend (`KERAS_BACKEND`);
an interrupted run goes on where its last checkpoint was.
"""

import argparse
import pathlib

import keras
import numpy as np

import keras_lrseg
from keras_lrseg import analysis, data, evaluation, export, training
from keras_lrseg.cli.options import positive

STEPS = 300


def main(name: str, out: pathlib.Path, steps: int) -> None:
    """Run every part of the job and say where its results lie."""
    train, validation = data.load_demo("train"), data.load_demo("validation")
    keras.utils.set_random_seed(0)
    model = keras_lrseg.models.make(
        name, num_classes=train.num_classes, dropout_rate=0.0, drop_path_rate=0.0
    )
    recipe = training.SegmentationRecipe(
        crop=(256, 256),  # a whole tile
        batch_size=4,
        steps=steps,
        learning_rate=1e-3,  # from scratch; the papers' 6e-5 is for trained backbones
        epoch_steps=50,
    )
    path = training.train(model, train, out, recipe, resume=(out / "run.json").exists())

    scores = evaluation.evaluate(model, validation)
    print(scores)
    (out / "scores.json").write_text(scores.to_json() + "\n")

    rows = np.linspace(0, len(validation) - 1, 6).astype(int)
    analysis.contact_sheet(model, validation, out / "contact_sheet.png", rows)

    image, mask = validation[int(rows[2])]
    tflite = out / "model.tflite"
    report = export.export_tflite(model, tflite, image.shape[:2], output="labels")
    with export.Artifact(tflite) as artifact:
        labels = artifact.run(image)
    data.save_mask(out / "tflite_labels.png", labels, validation.palette)
    # The file's labels have the decoder's stride; compare each with its cell's centre.
    stride = len(mask) // len(labels)
    agreement = (labels == mask[stride // 2 :: stride, stride // 2 :: stride]).mean()

    print(report)
    print(f"TFLite on one tile: {agreement:.3f} of the labels are right")
    print(f"model          {path}")
    print(f"scores         {out / 'scores.json'}")
    print(f"loss           {out / 'log.csv'}")
    print(f"contact sheet  {out / 'contact_sheet.png'}")
    print(f"TFLite file    {tflite}")
    print(f"its labels     {out / 'tflite_labels.png'}")
    print(f"mIoU {scores.miou:.2f} (constant {scores.constant_miou:.2f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        choices=("LRFormerT", "OffSegT", "SegFormerB0", "SegNeXtT"),
        default="LRFormerT",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("demo-output"),
        help="folder of the results (default demo-output)",
    )
    parser.add_argument(
        "--steps",
        type=positive,
        default=STEPS,
        help=f"training steps (default {STEPS})",
    )
    arguments = parser.parse_args()
    main(arguments.model, arguments.out, arguments.steps)
