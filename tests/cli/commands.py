"""Command lines in tests: run here, or in a process of their own."""

import contextlib
import csv
import io
import os
import pathlib
import shlex
import subprocess
import sys
from unittest import mock

import torch

from keras_lrseg import cli

ROOT = pathlib.Path(__file__).parents[2]
VERBS = tuple(cli.VERBS)


def call(command):
    """Run a command line; returns (status, stdout, stderr)."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.dict(os.environ),  # a command may set it for its own process
    ):
        try:
            status = cli.main(shlex.split(command))
        except SystemExit as end:
            status = end.code
    return status, out.getvalue(), err.getvalue()


def succeed(command):
    status, out, err = call(command)
    assert status == 0, err
    return out


def files_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def data_of(folder, part):
    images, masks = folder / part / "images", folder / part / "masks"
    return f"--images {images} --masks {masks} --classes {folder / 'classes.txt'}"


def log_of(run):
    with open(run / "log.csv") as file:
        return list(csv.DictReader(file))


def process(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "keras_lrseg.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
    )


def save_torch(path, state):
    tensors = {key: torch.from_numpy(value) for key, value in state.items()}
    torch.save({"state_dict": tensors}, path)
