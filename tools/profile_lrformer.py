"""Write results/profile_lrformer.csv: parameters and FLOPs beside the paper's.

    KERAS_BACKEND=jax python tools/profile_lrformer.py

Only shapes are traced, so the result depends on neither machine nor backend.
"""

import argparse
import csv
import pathlib

from bench import RESULTS

from keras_lrseg import models
from keras_lrseg.analysis import profile
from keras_lrseg.data import atomic_path

# model, classes, (height, width), the paper's table, its params in M and FLOPs in G.
ROWS = (
    ("LRFormerT", 150, (512, 512), "3", 13, 17),
    ("LRFormerS", 150, (512, 512), "3", 32, 40),
    ("LRFormerB", 150, (512, 512), "3", 69, 75),
    ("LRFormerL", 150, (640, 640), "3", 113, 183),
    ("LRFormerXL", 150, (512, 512), "", None, None),
    ("LRFormerL", 171, (512, 512), "4", 113, 122),
    ("LRFormerT", 19, (1024, 2048), "5", 13, 122),
    ("LRFormerS", 19, (1024, 2048), "5", 32, 295),
    ("LRFormerB", 19, (1024, 2048), "5", 67, 555),
    ("LRFormerL", 19, (1024, 2048), "5", 111, 908),
    ("LRFormerS", 150, (1024, 1024), "12", None, 145),
    ("LRFormerS", 150, (1536, 1536), "12", None, 319),
    ("LRFormerTClassifier", 1000, (224, 224), "6", 13.04, 1.74),
    ("LRFormerSClassifier", 1000, (224, 224), "6", 29.80, 4.62),
    ("LRFormerBClassifier", 1000, (224, 224), "6", 61.93, 9.21),
    ("LRFormerLClassifier", 1000, (224, 224), "6", 101.41, 15.56),
    ("LRFormerXLClassifier", 1000, (224, 224), "6", 186.99, 31.42),
)
COLUMNS = (
    "model",
    "classes",
    "height",
    "width",
    "params",
    "flops",
    "conv_flops",
    "attention_flops",
    "backbone_attention_flops",
    "paper_table",
    "paper_params_m",
    "paper_flops_g",
)


def main(out: pathlib.Path) -> None:
    """Profile every row and write the file."""
    with atomic_path(out) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for name, classes, size, *paper in ROWS:
            result = profile(models.make(name, num_classes=classes), size)
            counts = (
                result.params,
                result.flops,
                result.conv_flops,
                result.attention_flops,
                result.parts["backbone"].attention_flops,
            )
            writer.writerow((name, classes, *size, *counts, *paper))
            print(f"{name} at {size[0]}x{size[1]}: {result.flops / 1e9:.2f} G")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=pathlib.Path, default=RESULTS / "profile_lrformer.csv"
    )
    main(parser.parse_args().out)
