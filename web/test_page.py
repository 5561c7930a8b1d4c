"""The page of `keras-lrseg demo-web`, end to end in headless Chromium."""

import io
import re

import numpy as np
import pytest
from browser import (
    CHROMIUM,
    DEMO,
    QUIET,
    SIZE,
    canvas,
    choose,
    drop,
    label,
    legend_colours,
    open_page,
    png,
    serving,
)
from PIL import Image
from playwright.sync_api import expect

from tests.export.graphs import tflite_of

FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


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
