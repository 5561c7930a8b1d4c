"""One finished run for all tests that compare with it or go on from it."""

import pytest

from tests.training.toy_runs import train
from tests.training.toys import toy_dataset


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "finished"
    path = train(out, validation=toy_dataset(2, seed=1))
    assert path == out / "model.keras"
    return out
