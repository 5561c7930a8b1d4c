"""A model, the server of its page, and the page in a browser."""

import pytest
from browser import CHROMIUM, QUIET, SIZE, exported, open_page, serving
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("model"), SIZE)


@pytest.fixture(scope="module")
def address(model):
    with serving(model) as address:
        yield address


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
