"""The page of `keras-lrseg demo-web`, end to end in headless Chromium: `make web-test`.

What the page shows is read from its canvases, as a person's eyes would, and compared
with what the same file gives in Python.
"""

import base64
import io
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from keras_lrseg import LRFormerT
from keras_lrseg.data import load_demo
from keras_lrseg.export import export_tflite
from keras_lrseg.export.quantize import PRECISIONS
from tests.export.graphs import tflite_of

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
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
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


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("model"), SIZE)


@pytest.fixture(scope="module")
def address(model):
    with serving(model) as address:
        yield address


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


@pytest.fixture(scope="module")
def playwright():
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright):
    with playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(browser, address):
    """The page with its first sample; tests leave it able to take another picture."""
    page = browser.new_page()
    open_page(page, address)
    return page


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


# --- The labels -----------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 3, 12])
def test_labels_are_those_of_python(index, page, model):
    image, _ = DEMO[index]
    labels = label(page, Image.fromarray(image))
    assert labels.shape == SIZE
    assert len(np.unique(labels)) > 2
    np.testing.assert_array_equal(canvas(page, "picture"), image)
    assert_labels_of_python(labels, model, image)


@pytest.mark.parametrize("size", [(240, 512), (600, 500), (100, 180)])
def test_labels_of_another_size_are_those_of_mediapipe_in_python(size, page, model):
    tiles = np.concatenate([DEMO[i][0] for i in (3, 4)], 1)  # 256×512
    image = np.asarray(Image.fromarray(tiles).resize(size[::-1]))
    labels = label(page, Image.fromarray(image))
    assert labels.shape == size
    agreement = (labels == labels_of_mediapipe(model, image)).mean()
    print(f"{agreement:.4%} of {labels.size} labels are equal")
    assert agreement > 0.9999


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_labels_of_a_smaller_file_are_those_of_python(precision, browser, tmp_path):
    image = np.ascontiguousarray(DEMO[3][0][:64, :96])
    path = exported(tmp_path, (64, 96), precision)
    with serving(path) as address:
        page = browser.new_page()
        open_page(page, address)
        labels = label(page, Image.fromarray(image))
        page.close()
    confidences = confidences_of_python(path, image)
    second, first = np.moveaxis(np.sort(confidences, -1)[..., -2:], -1, 0)
    margin, differ = first - second, labels != confidences.argmax(-1)
    worst = margin[differ].max(initial=0) / np.median(margin)
    print(f"{precision}: {differ.mean():.4%} differ, by {worst:.3f} margins or less")
    # 8-bit arithmetic rounds the other way here and there: only where classes are near.
    assert worst < (0.1 if precision in ("dynamic_int8", "int8") else 1e-3)


def labels_of_mediapipe(model, image):
    """What MediaPipe's own client in Python gives, whatever the picture's size."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageSegmenterOptions(
        BaseOptions(model_asset_path=str(model)),
        output_category_mask=True,
        output_confidence_masks=False,
    )
    with vision.ImageSegmenter.create_from_options(options) as segmenter:
        picture = mediapipe.Image(mediapipe.ImageFormat.SRGB, image)
        result = segmenter.segment(picture)
        return result.category_mask.numpy_view()[..., 0].copy()  # from its memory


def test_large_picture_is_made_smaller(page):
    labels = label(page, Image.fromarray(DEMO[5][0]).resize((3000, 1500)))
    assert labels.shape == (512, 1024)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1"])
def test_picture_that_is_not_rgb_is_taken_as_rgb(mode, page, model):
    picture = Image.fromarray(DEMO[7][0]).convert("LA" if mode == "LA" else mode)
    rgb = np.asarray(picture.convert("RGB"))
    labels = label(page, picture)
    np.testing.assert_array_equal(canvas(page, "picture"), rgb)
    assert_labels_of_python(labels, model, rgb)


def test_transparent_picture_is_laid_on_white(page, model):
    image = DEMO[7][0].copy()
    opaque = np.full(SIZE, 255, np.uint8)
    opaque[:, :100] = 0
    picture = Image.fromarray(np.dstack([image, opaque]))
    image[:, :100] = 255
    labels = label(page, picture)
    np.testing.assert_array_equal(canvas(page, "picture"), image)
    assert_labels_of_python(labels, model, image)


def test_samples_are_labelled(page):
    samples = page.get_by_role("button", name="Sample")
    assert samples.count() >= 4
    before = canvas(page, "picture")
    page.evaluate("document.getElementById('overlay').hidden = true")
    samples.nth(2).click()
    expect(page.locator("#overlay")).to_be_visible()
    assert not np.array_equal(before, canvas(page, "picture"))


def test_dropped_picture_is_labelled(page, model):
    image, _ = DEMO[9]
    page.evaluate("document.getElementById('overlay').hidden = true")
    drop(page, "tile.png", png(Image.fromarray(image)))
    expect(page.locator("#overlay")).to_be_visible()
    assert_labels_of_python(labels_shown(page), model, image)


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


# --- Around the picture ---------------------------------------------------------------


def test_legend_has_the_models_names_and_colours_and_the_shares(page):
    labels = label(page, Image.fromarray(DEMO[12][0]))
    rows = page.locator("#legend li")
    names = rows.locator("span").all_inner_texts()
    assert names == list(DEMO.classes)
    np.testing.assert_array_equal(legend_colours(page), DEMO.palette)
    shares = 100 * np.bincount(labels.ravel(), minlength=len(names)) / labels.size
    expected = [f"{x:.0f} %" if x >= 1 or x == 0 else "< 1 %" for x in shares]
    assert rows.locator("small").all_inner_texts() == expected


def test_opacity_changes_how_much_of_the_overlay_is_seen(page):
    image, _ = DEMO[12]
    labels = label(page, Image.fromarray(image))
    colours = legend_colours(page)[labels].astype(float)
    for percent in (0, 50, 100):
        page.locator("#opacity").fill(str(percent))
        expect(page.locator("#percent")).to_have_text(f"{percent} %")
        shown = Image.open(io.BytesIO(page.locator("#stage").screenshot()))
        shown = np.asarray(shown.convert("RGB").resize(SIZE[::-1]), float)
        mixed = image + percent / 100 * (colours - image)
        assert np.median(abs(shown - mixed)) < 4
    page.locator("#opacity").fill("60")


def test_time_of_the_last_run_is_shown(page):
    label(page, Image.fromarray(DEMO[0][0]))
    text = page.locator("#time").inner_text()
    print("last run:", text)
    assert re.fullmatch(r"\d+(\.\d)? ms", text)


def test_everything_can_be_reached_and_used_by_keyboard(page):
    page.locator("body").click(position={"x": 1, "y": 1})
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        if reached[-1] == "opacity":
            break
    assert reached[-3:] == ["file", "camera", "opacity"]
    assert len(reached) > 6  # the samples come before
    page.keyboard.press("ArrowRight")
    expect(page.locator("#percent")).to_have_text("61 %")
    page.keyboard.press("ArrowLeft")


@pytest.mark.parametrize("width", [320, 390, 800, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_the_screen(width, scheme, browser, address):
    page = browser.new_page(
        viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    open_page(page, address)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", background)[0]) < 128) == (scheme == "dark")
    page.close()


# --- What goes wrong, and what does not leave -----------------------------------------


def test_file_that_is_no_picture_is_named(page):
    before = canvas(page, "picture")
    choose(page, "notes.txt", b"no picture")
    message = page.locator("#message.error")
    expect(message).to_have_text(
        "notes.txt is not a picture that this browser can read."
    )
    np.testing.assert_array_equal(canvas(page, "picture"), before)
    drop(page, "half.png", png(Image.fromarray(DEMO[0][0]))[:1000])
    expect(message).to_contain_text("half.png is not a picture")
    label(page, Image.fromarray(DEMO[0][0]))
    expect(page.locator("#message")).to_have_text("")


def test_drop_of_something_that_is_no_file_is_said(page):
    drop(page, "", b"")
    expect(page.locator("#message.error")).to_contain_text("not a file")


def test_missing_camera_is_said(page):
    page.locator("#camera").click()
    expect(page.locator("#message.error")).to_have_text("No camera was found.")
    expect(page.locator("#camera")).to_have_text("Camera")


def test_camera_is_labelled_until_it_is_stopped(playwright, address):
    args = [*QUIET, *FAKE_CAMERA]
    with playwright.chromium.launch(executable_path=CHROMIUM, args=args) as browser:
        page = browser.new_page()
        open_page(page, address)
        page.locator("#camera").click()
        expect(page.locator("#camera")).to_have_text("Stop camera")
        expect(page.locator("#overlay")).to_have_js_property("width", 640)
        first = canvas(page, "picture")
        page.wait_for_timeout(1500)
        assert not np.array_equal(first, canvas(page, "picture"))  # it moves
        expect(page.locator("#message")).to_have_text("")
        page.locator("#camera").click()
        expect(page.locator("#camera")).to_have_text("Camera")
        last = canvas(page, "picture")
        page.wait_for_timeout(500)
        np.testing.assert_array_equal(last, canvas(page, "picture"))
        label(page, Image.fromarray(DEMO[0][0]))


def test_model_that_the_runtime_refuses_is_said(browser, tmp_path):
    bare = tmp_path / "bare.tflite"  # without metadata, which floats need
    bare.write_bytes(tflite_of(lambda x: 2 * x, (1, 64, 96, 3)))
    page = browser.new_page()
    with serving(bare) as address:
        page.goto(address)
        expect(page.locator("#message.error")).to_contain_text(
            "This browser cannot run the model:"
        )
        print(page.locator("#message").inner_text())
    page.close()


def test_browser_without_webgl_is_said(playwright, address):
    args = [*QUIET, "--disable-3d-apis"]
    with playwright.chromium.launch(executable_path=CHROMIUM, args=args) as browser:
        page = browser.new_page()
        page.goto(address)
        expect(page.locator("#message.error")).to_contain_text("it has no WebGL 2")


def test_nothing_leaves_the_machine(browser, address):
    """The runtime reports its use a minute after the start: the page forbids it."""
    page = browser.new_page()
    asked, refused = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: refused.append(message.text))
    page.clock.install()
    open_page(page, address)
    page.clock.run_for(70_000)
    assert asked
    assert all(url.startswith((address, "data:")) for url in asked), asked
    assert any("Content Security Policy" in text for text in refused), refused
    page.close()
