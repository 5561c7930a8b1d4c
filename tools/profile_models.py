"""Write results/profile_*.csv: parameters and FLOPs beside the papers'.

    KERAS_BACKEND=torch python tools/profile_models.py

Only shapes are traced, so the result depends on neither machine nor backend.
"SegNeXtT-offset" is SegNeXtT with Offset Learning in place of the 1×1 convolution,
"LRFormerS-128" LRFormerS with that width of the decoder, "OffSegT-128" besides with the
1×1 convolution, as in the paper's Table 7; "LRFormerS+OCR" has that decoder. Of
OffSeg's family the figures of the authors' code are there too: the published FLOPs of
OffSeg count convolutions only.
"""

import argparse
import csv
import pathlib
from collections.abc import Callable

from bench import RESULTS
from study import STUDIES

from keras_lrseg import models
from keras_lrseg.analysis import profile
from keras_lrseg.data import atomic_path

COUNTS = (
    "params",
    "flops",
    "conv_flops",
    "attention_flops",
    "published_flops",
)
ADE, CITY = (150, (512, 512)), (19, (1024, 2048))  # classes, (height, width)
# Columns, then for each row the model, classes, (height, width) and the columns;
# parameters in millions, FLOPs in billions.
LRFORMER = (
    ("paper_table", "paper_params_m", "paper_flops_g"),
    ("LRFormerT", *ADE, "3", 13, 17),
    ("LRFormerS", *ADE, "3", 32, 40),
    ("LRFormerB", *ADE, "3", 69, 75),
    ("LRFormerL", 150, (640, 640), "3", 113, 183),
    ("LRFormerXL", *ADE, "", None, None),
    ("LRFormerL", 171, (512, 512), "4", 113, 122),
    ("LRFormerT", *CITY, "5", 13, 122),
    ("LRFormerS", *CITY, "5", 32, 295),
    ("LRFormerB", *CITY, "5", 67, 555),
    ("LRFormerL", *CITY, "5", 111, 908),
    ("LRFormerS", 150, (1024, 1024), "12", None, 145),
    ("LRFormerS", 150, (1536, 1536), "12", None, 319),
    ("LRFormerS-128", *ADE, "11", None, 27.0),
    ("LRFormerS-256", *ADE, "11", None, 32.2),
    ("LRFormerS-512", *ADE, "11", None, 50.3),
    ("LRFormerS-768", *ADE, "11", None, 78.5),
    ("LRFormerS-1024", *ADE, "11", None, 116.9),
    *(
        (f"LRFormerS+{name}", *ADE, "10", None, None)
        for name in ("OCR", "PPM", "DA", "CC")
    ),
    ("SegFormerB2+LRDecoder", *ADE, "10", None, None),
    ("LRFormerTPlus", *ADE, "13", 31, 53),
    ("LRFormerSPlus", *ADE, "13", 48, 70),
    ("LRFormerBPlus", *ADE, "13", 80, 94),
    ("LRFormerLPlus", 150, (640, 640), "13", 119, 192),
    ("LRFormerXLPlus", 150, (640, 640), "13", 205, 365),
    ("LRFormerTClassifier", 1000, (224, 224), "6", 13.04, 1.74),
    ("LRFormerSClassifier", 1000, (224, 224), "6", 29.80, 4.62),
    ("LRFormerBClassifier", 1000, (224, 224), "6", 61.93, 9.21),
    ("LRFormerLClassifier", 1000, (224, 224), "6", 101.41, 15.56),
    ("LRFormerXLClassifier", 1000, (224, 224), "6", 186.99, 31.42),
)
OFFSEG = (
    ("paper_params_m", "paper_flops_g", "code_params_m", "code_flops_g"),
    ("OffSegT", *ADE, 6.2, 5.3, 6.222, 9.54),
    ("OffSegB", *ADE, 13.0, 10.3, 12.955, 14.94),
    ("OffSegL", *ADE, 26.4, 17.1, 26.414, 22.08),
    ("SegNeXtT", *ADE, 4.3, 6.6, 4.263, 6.40),
    ("SegNeXtT-offset", *ADE, 4.4, 7.2, 4.433, 7.15),
    ("SegNeXtS", *ADE, 13.9, 15.9, 13.933, 15.65),
    ("SegNeXtS-offset", *ADE, 14.1, 16.5, 14.103, 16.40),
    ("SegNeXtB", *ADE, 27.6, 34.9, 27.636, 32.69),
    ("SegNeXtB-offset", *ADE, 28.2, 34.8, 28.238, 34.74),
    ("SegFormerB0", *ADE, 3.8, 8.4, 3.754, 8.39),
    ("SegFormerB0-offset", *ADE, 3.9, 8.8, 3.923, 8.67),
    ("SegFormerB1", *ADE, 13.7, 15.9, 13.717, 15.88),
    ("SegFormerB1-offset", *ADE, 13.9, 16.3, 13.887, 16.16),
    ("SegFormerB2", *ADE, 24.8, 25.9, 24.762, 25.68),
    ("SegFormerB2-offset", *ADE, 24.9, 26.1, 24.931, 25.96),
    ("SegFormerB2-768", *ADE, 28, 62, None, None),  # the peer in LRFormer's Table 12
    ("SegFormerB3", *ADE, 44.6, 42.5, 44.638, 42.30),
    ("SegFormerB3-offset", *ADE, 44.8, 42.8, 44.807, 42.58),
    ("SegFormerB4", *ADE, 61.4, 59.2, 61.408, 58.91),
    ("SegFormerB4-offset", *ADE, 61.6, 59.5, 61.578, 59.19),
    ("SegFormerB5", *ADE, 82.0, 75.2, 82.008, 74.85),
    ("SegFormerB5-offset", *ADE, 82.2, 75.5, 82.178, 75.13),
    ("Mask2FormerSwinT", *ADE, 47.4, None, 47.440, None),
    ("Mask2FormerSwinT-offset", *ADE, 47.6, None, 47.571, None),
    ("Mask2FormerSwinS", *ADE, None, None, None, None),
    ("Mask2FormerSwinB", 150, (640, 640), None, None, None, None),
    ("Mask2FormerSwinL", 150, (640, 640), None, None, None, None),
    ("OffSegT-64", *ADE, 6.0, 4.7, None, None),  # Table 7
    ("OffSegT-128", *ADE, 6.0, 5.1, None, None),
    ("OffSegT-256", *ADE, 6.1, 6.0, None, None),
    ("OffSegT-512", *ADE, 6.2, 7.7, None, None),
    ("OffSegT-768", *ADE, 6.3, 9.4, None, None),
    ("OffSegT-1024", *ADE, 6.4, 11.1, None, None),
    ("OffSegT-2048", *ADE, 6.8, 17.9, None, None),
    ("OffSegT", *CITY, None, 44.8, None, 88.7),
    ("OffSegB", *CITY, None, 86.5, None, 152.6),
    ("OffSegL", *CITY, None, 143.4, None, 230.3),
    ("SegNeXtT", *CITY, None, 50.5, None, 50.1),
    ("SegNeXtT-offset", *CITY, None, 53.1, None, 52.8),
    ("SegNeXtS", *CITY, None, 124.6, None, 124.1),
    ("SegNeXtS-offset", *CITY, None, 127.2, None, 126.7),
    ("SegNeXtB", *CITY, None, 275.7, None, 259.3),
    ("SegNeXtB-offset", *CITY, None, 269.6, None, 268.8),
)
FAMILIES = {"lrformer": LRFORMER, "offseg": OFFSEG}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    families = list(FAMILIES)
    parser.add_argument(
        "--families", nargs="+", choices=families, default=families, metavar="FAMILY"
    )
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="folder")
    arguments = parser.parse_args()
    for family in arguments.families:
        write(FAMILIES[family], arguments.out / f"profile_{family}.csv")


def write(table: tuple, out: pathlib.Path) -> None:
    """Profile every row of a family and write its file."""
    header, *rows = table
    columns = ("model", "classes", "height", "width", *COUNTS)
    columns += ("backbone_attention_flops", *header)
    with atomic_path(out) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for label, classes, size, *published in rows:
            name, _, classifier = label.partition("-")
            settings = {"classifier": classifier} if classifier else {}
            if classifier.isdigit():
                settings = {"decoder_channels": int(classifier), "classifier": "pixel"}
            if "+" in label:
                model = combined(label)(classes)
            else:
                model = models.make(name, num_classes=classes, **settings)
            result = profile(model, size)
            counts = [getattr(result, count) for count in COUNTS]
            counts.append(result.parts["backbone"].attention_flops)
            writer.writerow((label, classes, *size, *counts, *published))
            print(f"{label} at {size[0]}x{size[1]}: {result.flops / 1e9:.2f} G")


def combined(label: str) -> Callable:
    """What makes "LRFormerS+OCR", a configuration of the study of decoders."""
    name = label.partition("+")[2]
    return STUDIES["decoders"].models[{"LRDecoder": "B2 + LRDecoder"}.get(name, name)]


if __name__ == "__main__":
    main()
