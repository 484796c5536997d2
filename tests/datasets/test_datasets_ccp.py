from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bench.core import InputError
from bench.datasets.ccp import CCP_LABELS, CCP_PARTS, CHICTOPIA_LABELS, ccp, chictopia
from bench.datasets.dolls import CLOTHING
from tests.datasets.conftest import dressed_person

CLASS = {name: number for number, name in enumerate(CLOTHING)}


def test_each_label_has_one_class_and_every_class_but_the_background_has_labels():
    labels = " ".join(CCP_LABELS.values()).split()
    assert len(labels) == len(set(labels)) and set(CCP_LABELS) == set(CHICTOPIA_LABELS) == set(CLOTHING[1:])
    numbers = [number for part in CHICTOPIA_LABELS.values() for number in part]
    assert len(numbers) == len(set(numbers)) and set(range(22)) - set(numbers) == {0, 16}  # background, bag


def test_labels_become_classes_and_skin_is_divided_by_height(ccp_folder):
    source = ccp(str(ccp_folder), (48, 32))
    assert [len(split.x) for split in (source.train, source.test)] == [10, 2]
    assert source.train.x.shape == (10, 3, 48, 32) and source.train.x.dtype == np.uint8
    column = source.train.truth["sketch"][0, :, 16]
    expected = {5: "hair", 8: "face", 15: "top", 30: "bottom", 41: "legs", 43: "shoes", 46: "background"}
    assert {row: CLOTHING[column[row]] for row in expected} == expected
    side = source.train.truth["sketch"][0, 15]
    assert side[9] == CLASS["arms"] and side[24] == CLASS["background"]  # bare arm, and bag
    assert (source.train.truth["sketch"] == source.train.truth["sketch"][:1]).all()


def test_a_pose_is_the_silhouette_with_head_and_feet(ccp_folder):
    truth = ccp(str(ccp_folder), (48, 32)).test.truth
    np.testing.assert_array_equal(truth["pose"] > 0, truth["sketch"] > 0)
    column = truth["pose"][0, :, 16]
    assert [CCP_PARTS[column[row]] for row in (5, 8, 15, 30, 41, 43)] == ["head"] * 2 + ["body"] * 3 + ["feet"]


def test_a_picture_of_another_shape_is_cropped_around_its_centre(ccp_folder):
    sketch = ccp(str(ccp_folder), (24, 24)).train.truth["sketch"][0]  # the middle 64 rows of 96
    assert sketch.shape == (24, 24) and sketch[0, 12] == CLASS["face"] and sketch[23, 12] == CLASS["bottom"]


def test_the_layout_of_clothnet_s_own_data(chictopia_folder):
    source = chictopia(str(chictopia_folder), (48, 32))
    truth = source.train.truth
    column = truth["sketch"][0, :, 16]
    expected = {5: "hair", 8: "face", 15: "top", 30: "bottom", 43: "shoes"}
    assert {row: CLOTHING[column[row]] for row in expected} == expected
    assert set(np.unique(truth["pose"])) == {0, 3} and source.train.conditions["pose"].shape == (10, 4, 48, 32)
    assert source.vocabulary["pose"] == ("background", "part 1", "part 2", "part 3")


def breaks(load, folder, message) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(str(folder))
    assert "\n" not in str(caught.value)


def test_wrong_files_are_named(ccp_folder):
    (ccp_folder / "labels/0003.png").unlink()
    breaks(ccp, ccp_folder, r"photos/0003\.jpg has no labels: expected .*labels/0003\.png")
    Image.fromarray(dressed_person()[:90]).save(ccp_folder / "labels/0003.png")
    breaks(ccp, ccp_folder, r"labels/0003\.png has the shape \(90, 64\) of .* and .*0003\.jpg \(96, 64\)")
    Image.fromarray(dressed_person() + np.uint8(5)).save(ccp_folder / "labels/0003.png")
    breaks(ccp, ccp_folder, r"labels/0003\.png has the label 11: expected numbers from 0 to 6")
    Image.fromarray(dressed_person() > 0).save(ccp_folder / "labels/0003.png")
    breaks(ccp, ccp_folder, r"labels/0003\.png has the shape \(96, 64\) of type bool")
    Image.fromarray(np.stack([dressed_person()] * 3, -1)).save(ccp_folder / "labels/0003.png")
    breaks(ccp, ccp_folder, r"labels/0003\.png has the shape \(96, 64, 3\) of type uint8")
    (ccp_folder / "labels/0003.png").write_bytes(b"no picture")
    breaks(ccp, ccp_folder, r"labels/0003\.png cannot be read as a picture")
    Image.fromarray(dressed_person()).save(ccp_folder / "labels/0003.png")
    (ccp_folder / "photos/0003.jpg").rename(ccp_folder / "0003.jpg")
    breaks(ccp, ccp_folder, r"labels/0003\.png has no photo: expected .*photos/0003\.jpg")
    (ccp_folder / "0003.jpg").rename(ccp_folder / "photos/0003.jpg")
    (ccp_folder / "labels.txt").write_bytes("null\nh\u00e4ar\n".encode("latin1"))
    breaks(ccp, ccp_folder, r"labels\.txt cannot be read as UTF-8")
    for text in ("", "Null\nHAIR\n"):
        (ccp_folder / "labels.txt").write_text(text)
        breaks(ccp, ccp_folder, r"labels\.txt names no clothing: expected one label a line")
    (ccp_folder / "labels.txt").unlink()
    breaks(ccp, ccp_folder, r"labels\.txt is missing")
    breaks(ccp, ccp_folder / "nowhere", r"nowhere is not a folder")


def test_wrong_files_of_the_other_layout_are_named(chictopia_folder):
    (chictopia_folder / "0002_bodysegments.png").unlink()
    breaks(chictopia, chictopia_folder, r"0002_image\.png has no labels: expected .*0002_bodysegments\.png")
    for file in chictopia_folder.glob("*_image.png"):
        file.unlink()
    breaks(chictopia, chictopia_folder, r"has no picture \*_image\.png")
