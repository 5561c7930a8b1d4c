"""The commands on a model of masks, from a checkpoint to label maps."""

import json

import pytest

from keras_lrseg import LRFormerTPlus
from keras_lrseg.checkpoints import load_model
from tests.cli.commands import call, data_of, files_in, save_torch, succeed
from tests.helpers import assert_same_weights, numpy, slow_on_jax
from tests.reference import to_torch_layout, torch_state, torch_variables
from tests.tiny import filled, small_mask_decoders

EMBEDDINGS = ("level_encoding", "query_embed", "query_feat", "level_embed")


@pytest.fixture(scope="module")
def job(toy):
    """A folder with a random LRFormer-T+ as a published checkpoint holds it."""
    with small_mask_decoders():
        model = filled(LRFormerTPlus, num_classes=3, num_queries=5)
        variables = torch_variables(model)
        state = {}
        for key, variable in variables.items():
            if key.endswith(EMBEDDINGS):
                state[f"{key}.weight"] = numpy(variable)
            else:
                state[key] = to_torch_layout(numpy(variable)).copy()
        save_torch(toy / "plus.pth", state)
        save_torch(toy / "pixels.pth", torch_state("lrformer_tiny_test"))
        yield toy, model


@slow_on_jax
def test_checkpoint_becomes_a_model_that_predicts_and_is_scored(job, tmp_path):
    toy, source = job
    path = tmp_path / "plus.keras"
    printed = succeed(f"convert LRFormerTPlus {toy}/plus.pth {path}")
    assert printed == f"{path}: LRFormerTPlus with 3 classes\n"
    assert_same_weights(load_model(path), source)

    printed = succeed(f"profile {path} --size 64 96")
    names = [line.split()[0] for line in printed.splitlines()[1:]]
    assert names == ["backbone", "pixel_decoder", "mask_decoder", "total"]

    succeed(f"evaluate {path} {data_of(toy, 'val')} --json {tmp_path}/scores.json")
    assert 0 <= json.loads((tmp_path / "scores.json").read_text())["miou"] <= 1

    images = " ".join(map(str, sorted((toy / "val" / "images").iterdir())))
    succeed(f"predict {path} {images} --out {tmp_path}/labels")
    assert len(files_in(tmp_path / "labels")) == 4


@pytest.mark.parametrize(
    ("model", "file", "words"),
    [
        ("LRFormerT", "plus.pth", "a segmenter of masks, LRFormerT is none"),
        ("LRFormerTPlus", "pixels.pth", "a segmenter of pixels, LRFormerTPlus is none"),
    ],
)
def test_checkpoint_of_another_kind_is_refused(job, tmp_path, model, file, words):
    status, _, err = call(f"convert {model} {job[0]}/{file} {tmp_path}/x.keras")
    assert (status, files_in(tmp_path)) == (2, [])
    assert words in err
