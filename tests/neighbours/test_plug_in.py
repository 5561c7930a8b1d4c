"""The examples of docs/plug-in.md do what the page says."""

import importlib.util
import pathlib
import re

import keras
import pytest

from keras_lrseg.backbones.lrformer import VARIANTS
from tests.checks import check_trains_and_saves
from tests.tiny import TINY

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "plug-in.md"
EXAMPLES = {
    section.partition("\n")[0]: "".join(
        re.findall(r"```python\n(.+?)```", section, re.S)
    )
    for section in PAGE.read_text().split("\n## ")[1:]
}


def examples():
    for title in EXAMPLES:
        # Half a minute each, where graphs are compiled.
        compiled = keras.config.backend() != "torch"
        slow = compiled and ("DeepLab" in title or "KerasHub backbone" in title)
        yield pytest.param(title, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("title", examples())
def test_example_trains_and_saves(title, monkeypatch):
    code = EXAMPLES[title]
    for package in re.findall(r"^import (keras_\w+)", code, re.M):
        if importlib.util.find_spec(package) is None:
            pytest.skip("needs: pip install 'keras-lrseg[neighbours]'")
    monkeypatch.setitem(VARIANTS, "T", TINY)
    example = {}
    exec(code, example)
    size = (64, 96) if "DeepLab" in title else (72, 88)
    check_trains_and_saves(example["model"], *size, any_size="DeepLab" not in title)
