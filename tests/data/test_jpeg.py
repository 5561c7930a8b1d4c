"""A part of a JPEG is that part of the whole image, to the bit."""

import itertools

import numpy as np
import pytest
from PIL import Image

from keras_lrseg.data import SegmentationDataset, load_image, training_pipeline
from keras_lrseg.data.files import CorruptFile, Record
from keras_lrseg.data.jpeg import Jpeg, decode_part, load_lazily

HEIGHT, WIDTH = 97, 131


@pytest.fixture
def picture(rng):
    """Colours that change from pixel to pixel."""
    return Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))


def assert_same_parts(path, rng):
    whole, jpeg = load_image(path), load_lazily(path)
    assert isinstance(jpeg, Jpeg)
    assert jpeg.shape == whole.shape
    for _ in range(40):
        first = rng.integers((HEIGHT - 1, WIDTH - 1))
        last = rng.integers(first + 1, (HEIGHT + 1, WIDTH + 1))
        part = decode_part(jpeg, first, last, "name")
        expected = whole[first[0] : last[0], first[1] : last[1]]
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_part_is_that_of_the_whole(
    tmp_path, rng, picture, mode, progressive, subsampling
):
    path = tmp_path / "a.jpg"
    picture.convert(mode).save(path, progressive=progressive, subsampling=subsampling)
    assert_same_parts(path, rng)


def test_phone_pictures_with_a_second_one_behind(tmp_path, rng, picture):
    path = tmp_path / "a.jpg"
    picture.save(path, "MPO", save_all=True, append_images=[picture.rotate(180)])
    assert_same_parts(path, rng)


def test_record_in_memory(tmp_path, rng, picture):
    path = tmp_path / "a.jpg"
    picture.save(path)
    assert_same_parts(Record(path.read_bytes(), "record 3"), rng)


@pytest.mark.parametrize(("name", "mode"), [("a.jpg", "CMYK"), ("a.png", "RGB")])
def test_other_files_are_decoded_at_once(tmp_path, picture, name, mode):
    path = tmp_path / name
    picture.convert(mode).save(path)
    np.testing.assert_array_equal(load_lazily(path), load_image(path))


@pytest.mark.parametrize("length", [20, -2000, -3])
def test_truncated_file_is_named(tmp_path, picture, length):
    path = tmp_path / "a.jpg"
    picture.save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CorruptFile, match=r"Cannot read the image .*a\.jpg"):
        load_lazily(path)


def test_damage_in_the_part_is_named(tmp_path, picture):
    path = tmp_path / "a.jpg"
    picture.save(path)
    jpeg = Jpeg(path.read_bytes()[:-2000], (HEIGHT, WIDTH, 3))
    with pytest.raises(CorruptFile, match=r"Cannot read the image photo\.jpg: .*trunc"):
        decode_part(jpeg, np.array([90, 0]), np.array([97, 100]), "photo.jpg")


def test_bytes_behind_the_end_are_no_damage(tmp_path, picture):
    path = tmp_path / "a.jpg"
    picture.save(path)
    whole = load_image(path)
    path.write_bytes(path.read_bytes() + b"more")
    np.testing.assert_array_equal(load_lazily(path), whole)


def test_stream_of_files_is_that_of_decoded_images(folders):
    files = SegmentationDataset.from_folders(*folders, ["a", "b", "c", "d"])
    arrays = SegmentationDataset.from_arrays(
        *map(list, zip(*files, strict=True)), files.classes
    )
    streams = (
        itertools.islice(training_pipeline(dataset, (32, 40), 3), 5)
        for dataset in (files, arrays)
    )
    for batches in zip(*streams, strict=True):
        for one, other in zip(*batches, strict=True):
            np.testing.assert_array_equal(one, other)
