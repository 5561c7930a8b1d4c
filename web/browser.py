"""The demo page in headless Chromium, and what its files give in Python.

What the page shows is read from its canvases, as a person's eyes would.
"""

import base64
import io
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from playwright.sync_api import expect

from keras_lrseg import LRFormerT
from keras_lrseg.data import load_demo
from keras_lrseg.export import export_tflite

SIZE = (256, 256)  # of the model's images
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
)
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL without a graphics card
    "--disable-quic",
    "--disable-sync",
)
FLOAT_NOISE = 1e-5  # of a confidence: the browser's arithmetic has another order
DEMO = load_demo("validation")
expect.set_options(timeout=60_000)


def exported(folder, size, precision="float32"):
    """An LRFormer-T that was never trained: its labels are of no use, but many."""
    keras.utils.set_random_seed(0)
    model = LRFormerT(DEMO.num_classes)
    model.classes, model.palette = DEMO.classes, DEMO.palette
    path = folder / "land.tflite"
    images = [DEMO[0][0]] if precision == "int8" else None
    export_tflite(
        model, path, size, "confidence", precision=precision, calibration=images
    )
    return path


class serving:
    """The address of `keras-lrseg demo-web` for a model, while it runs."""

    def __init__(self, model):
        command = f"-m keras_lrseg.cli demo-web {model} --port 0 --no-browser"
        self.server = subprocess.Popen(
            [sys.executable, *command.split()], stdout=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self.server.stdout.readline().split()[0]

    def __exit__(self, *_):
        self.server.terminate()
        self.server.wait()


def open_page(page, address):
    page.goto(address)
    expect(page.locator("#overlay")).to_be_visible()


def choose(page, name, content):
    page.set_input_files(
        "#file", {"name": name, "mimeType": "image/png", "buffer": content}
    )


def label(page, picture):
    """The labels that the page gives a Pillow image, (H, W)."""
    page.evaluate("document.getElementById('overlay').hidden = true")
    choose(page, "picture.png", png(picture))
    expect(page.locator("#overlay")).to_be_visible()
    return labels_shown(page)


def labels_shown(page):
    same = (canvas(page, "overlay")[:, :, None] == legend_colours(page)).all(-1)
    assert (same.sum(-1) == 1).all()  # (H, W, K)
    return same.argmax(-1)


def legend_colours(page):
    colours = page.locator("#legend i").evaluate_all(
        "all => all.map((x) => getComputedStyle(x).backgroundColor)"
    )
    return np.array([re.findall(r"\d+", colour) for colour in colours], np.uint8)


def canvas(page, name):
    address = page.evaluate(f"document.getElementById('{name}').toDataURL()")
    content = base64.b64decode(address.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def png(picture):
    stream = io.BytesIO()
    picture.save(stream, "png")
    return stream.getvalue()


def confidences_of_python(model, image):
    """What LiteRT gives for uint8 RGB of the model's size: (H, W, K)."""
    interpreter = Interpreter(str(model), num_threads=2)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]


def assert_labels_of_python(labels, model, image):
    """All are equal, but where two confidences are as near as float32 can tell."""
    confidences = confidences_of_python(model, image)
    second, first = np.moveaxis(np.sort(confidences, -1)[..., -2:], -1, 0)
    differ = labels != confidences.argmax(-1)
    print(f"{differ.sum()} of {labels.size} labels differ")
    assert (first - second)[differ].max(initial=0) < FLOAT_NOISE
    assert differ.sum() <= 5


def drop(page, name, content):
    page.evaluate(
        """([name, content]) => {
            const bytes = Uint8Array.from(atob(content), (x) => x.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            if (name) dataTransfer.items.add(new File([bytes], name));
            document.body.dispatchEvent(
                new DragEvent("drop", { dataTransfer, bubbles: true }),
            );
        }""",
        [name, base64.b64encode(content).decode()],
    )
