import shlex

import pytest

from keras_lrseg import cli
from tests.cli.commands import VERBS, call


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example(verb):
    status, out, _ = call(f"{verb} --help")
    assert status == 0
    assert f"example: {cli.VERBS[verb].EXAMPLE}" in " ".join(out.split())


@pytest.mark.parametrize("verb", VERBS)
def test_example_is_a_command_that_is_understood(verb):
    program, *arguments = shlex.split(cli.VERBS[verb].EXAMPLE)
    assert program == "keras-lrseg"
    assert cli._parser().parse_args(arguments).verb == verb


def test_help_lists_every_verb():
    status, out, _ = call("--help")
    assert status == 0
    assert all(verb in out for verb in VERBS)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "paint",
        "profile LRFormerT --size 0 64",
        "profile LRFormerT --size 64 64 --classifier mask",
        "export m --size 64",
    ],
)
def test_command_that_is_not_understood_has_status_2(command):
    status, _, err = call(command)
    assert status == 2
    assert "keras-lrseg" in err
