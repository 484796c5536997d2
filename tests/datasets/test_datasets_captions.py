from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from bench.core import InputError
from bench.datasets import load, prepare
from bench.datasets.captions import captions
from bench.datasets.unpickling import unpickle

FEATURES = 8


def options(root, **changes) -> dict:
    return {"_target_": "bench.datasets.captions.captions", "root": str(root), "size": 16, **changes}


def test_a_picture_is_cropped_around_its_box_and_its_caption_is_one_word(cub):
    source = captions(str(cub), size=30)
    assert source.train.x.shape == (12, 3, 30, 30) and source.test.x.shape == (3, 3, 30, 30)
    # The crop is 1.5 times the box wide: 30 pixels, of which the middle 20 are the square.
    for x in source.train.x:
        assert x[0, 6:24, 6:24].min() > 200 and x[0, :4].max() < 60 and x[0, :, 26:].max() < 60
        assert x[2, :4].min() > 200
    stored = unpickle(cub / "train" / "char-CNN-RNN-embeddings.pickle")
    assert source.train.conditions["caption"].dtype == np.float32
    np.testing.assert_array_equal(source.train.conditions["caption"], np.array(stored)[:, :, np.newaxis])
    np.testing.assert_array_equal(source.test.group, [100, 101, 102])


def test_without_boxes_the_whole_picture_is_resized(coco):
    source = captions(str(coco), size=30)
    red = source.train.x[:, 0].mean((1, 2)) / 255
    np.testing.assert_allclose(red, 400 / (90 * 120), rtol=0.1)
    assert source.train.group is None


def test_it_is_converted_once_and_again_when_a_file_changes(cub, tmp_path):
    cache = tmp_path / "cache"
    first = captions(str(cub), size=16, cache=cache)
    (folder,) = (path for path in (cache / "captions").iterdir() if path.is_dir())
    stamp = (folder / "train_x.npy").stat().st_mtime_ns
    again = captions(str(cub), size=16, cache=cache)
    np.testing.assert_array_equal(first.train.x, again.train.x)
    assert (folder / "train_x.npy").stat().st_mtime_ns == stamp
    (picture,) = (cub / "CUB_200_2011" / "images").rglob("Bird_train_0.jpg")
    Image.new("RGB", (120, 90)).save(picture)
    assert captions(str(cub), size=16, cache=cache).train.x[0].max() < 10


def test_a_limit_takes_the_first(cub):
    source = captions(str(cub), size=16, limit=5)
    assert len(source.train.x) == 5 and source.train.conditions["caption"].shape == (5, 2, 1, FEATURES)


def test_no_class_of_cub_is_in_two_splits(cub):
    data = prepare(captions(str(cub), size=16))
    groups = [set(split.group.tolist()) for split in (data.train, data.validation, data.test)]
    assert not groups[0] & groups[2] and not groups[0] & groups[1]
    assert data.shapes.provides == ("caption",) and data.shapes.conditions == {"caption": (2, 1, FEATURES)}


class Hostile:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_hostile_pickle_runs_nothing(cub, protocol):
    victim = cub / "written"
    file = cub / "train" / "char-CNN-RNN-embeddings.pickle"
    file.write_bytes(pickle.dumps([Hostile(victim)], protocol=protocol))
    with pytest.raises(InputError, match=rf"{file} is not a pickle of lists and arrays: it names .*open, which was no"):
        captions(str(cub), size=16)
    assert not victim.exists()
    pickle.loads(file.read_bytes())  # it would have
    assert victim.exists()


def _drop_picture(cub):
    next((cub / "CUB_200_2011" / "images").rglob("Bird_train_3.jpg")).unlink()


def _drop_text(cub):
    next((cub / "text").rglob("Bird_test_1.txt")).unlink()


def _cut_embeddings(cub):
    file = cub / "train" / "char-CNN-RNN-embeddings.pickle"
    file.write_bytes(file.read_bytes()[:-40])


def _too_few_embeddings(cub):
    (cub / "test" / "char-CNN-RNN-embeddings.pickle").write_bytes(pickle.dumps([np.zeros((2, FEATURES))] * 2))


def _too_many_embeddings(cub):
    (cub / "test" / "char-CNN-RNN-embeddings.pickle").write_bytes(pickle.dumps([np.zeros((2, FEATURES))] * 4))


def _other_captions(cub):
    values = [np.zeros((2, FEATURES)), np.zeros((1, FEATURES)), np.zeros((2, FEATURES))]
    (cub / "test" / "char-CNN-RNN-embeddings.pickle").write_bytes(pickle.dumps(values))


def _text_for_embeddings(cub):
    (cub / "test" / "char-CNN-RNN-embeddings.pickle").write_bytes(pickle.dumps("embeddings"))


def _not_finite(cub):
    (cub / "test" / "char-CNN-RNN-embeddings.pickle").write_bytes(pickle.dumps([np.full((2, FEATURES), np.nan)] * 3))


def _too_many_classes(cub):
    (cub / "test" / "class_info.pickle").write_bytes(pickle.dumps([1, 2, 3, 4]))


def _names_for_classes(cub):
    (cub / "test" / "class_info.pickle").write_bytes(pickle.dumps(["1", "2", "3"]))


def _share_a_picture(cub):
    keys = unpickle(cub / "train" / "filenames.pickle")
    (cub / "test" / "filenames.pickle").write_bytes(pickle.dumps(keys[:3]))


def _drop_a_box(cub):
    file = cub / "CUB_200_2011" / "bounding_boxes.txt"
    file.write_text("\n".join(file.read_text().splitlines()[1:]))


def _shorten_a_box(cub):
    file = cub / "CUB_200_2011" / "bounding_boxes.txt"
    file.write_text(file.read_text().replace(" 20.0 20.0", " 20.0", 1))


def _name_with_a_space(cub):
    file = cub / "CUB_200_2011" / "images.txt"
    file.write_text(file.read_text().replace("/", "/ ", 1))


def _break_picture(cub):
    next((cub / "CUB_200_2011" / "images").rglob("Bird_train_3.jpg")).write_bytes(b"no picture")


def _drop_boxes(cub):
    (cub / "CUB_200_2011" / "bounding_boxes.txt").unlink()


def _leave(cub):
    (cub / "train" / "filenames.pickle").write_bytes(pickle.dumps(["../secret"]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_drop_picture, r"text/.*Bird_train_3\.txt has captions, but its picture is missing: .*Bird_train_3\.jpg"),
        (_drop_text, r"text/.*Bird_test_1\.txt is missing: expected the captions of .*Bird_test_1\.jpg"),
        (_cut_embeddings, r"train/char-CNN-RNN-embeddings\.pickle is not a pickle of lists and arrays: "),
        (_too_few_embeddings, r"test/char-CNN-RNN-embeddings\.pickle holds 2 values: expected a list for the 3 names"),
        (_too_many_embeddings, r"test/char-CNN-RNN-embeddings\.pickle holds 4 values: .* the 3 names in filenames"),
        (_other_captions, r"test/char-CNN-RNN-embeddings\.pickle does not hold numbers \[images, captions, features\]"),
        (_text_for_embeddings, r"test/char-CNN-RNN-embeddings\.pickle holds a str: expected a list"),
        (_not_finite, r"test/char-CNN-RNN-embeddings\.pickle has shape \(3, 2, 8\): expected finite numbers"),
        (_too_many_classes, r"test/class_info\.pickle holds 4 values: .* the 3 names in filenames"),
        (_names_for_classes, r"test/class_info\.pickle does not hold the class number of each of 3 images"),
        (_share_a_picture, r"filenames\.pickle in .*cub names .*Bird_train_0 twice"),
        (_drop_a_box, r"bounding_boxes\.txt has the box \(\) for .*Bird_train_0\.jpg: expected left, top"),
        (_shorten_a_box, r"bounding_boxes\.txt has the box \([\d., ]+\) for .*Bird_train_0\.jpg: expected left, top"),
        (_name_with_a_space, r"bounding_boxes\.txt does not fit images\.txt beside it"),
        (_break_picture, r"Bird_train_3\.jpg cannot be decoded"),
        (_drop_boxes, r"bounding_boxes\.txt cannot be read"),
        (_leave, r"filenames\.pickle names \.\./secret, which is outside the folder"),
    ],
)
def test_one_line_names_the_file_at_fault(cub, damage, message):
    damage(cub)
    with pytest.raises(InputError, match=message) as caught:
        load(options(cub))
    assert "\n" not in str(caught.value)


def test_a_missing_folder_says_what_is_expected(tmp_path, monkeypatch):
    monkeypatch.delenv("BENCH_DATA", raising=False)
    with pytest.raises(InputError, match=r"dataset\.root is not set: expected train/ and test/"):
        captions(name="cub")
    with pytest.raises(InputError, match=r"train is not a folder"):
        captions(str(tmp_path))
