from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bench.core import InputError
from bench.datasets.ccp import CCP_LABELS, CCP_PARTS, CHICTOPIA_LABELS, ccp, chictopia
from bench.datasets.dolls import CLOTHING

NAMES = ["null", "hair", "skin", "t-shirt", "jeans", "bag", "shoes"]
SIDES = (96, 64)  # of the pictures: exactly twice those that are asked for
CLASS = {name: number for number, name in enumerate(CLOTHING)}


def person() -> np.ndarray:
    """Labels [96, 64]: hair, a face, a t-shirt with bare arms and a bag beside it, jeans, bare ankles, shoes."""
    labels = np.zeros(SIDES, np.uint8)
    bands = {"hair": (8, 12), "skin": (12, 20), "t-shirt": (20, 48), "jeans": (48, 80), "shoes": (84, 88)}
    for name, (top, bottom) in bands.items():
        labels[top:bottom, 24:40] = NAMES.index(name)
    labels[24:44, 16:24] = labels[80:84, 24:40] = NAMES.index("skin")
    labels[40:56, 44:56] = NAMES.index("bag")
    return labels


def write(folder, picture: str, labels: dict[str, np.ndarray], count: int = 12) -> None:
    for number in range(count):
        photo = np.full((*SIDES, 3), 20 * number, np.uint8)
        for name, pixels in {picture: photo, **labels}.items():
            file = folder / name.format(number)
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(file)


@pytest.fixture
def parsed(tmp_path):
    """A folder in the layout of Clothing Co-Parsing."""
    write(tmp_path, "photos/{:04}.jpg", {"labels/{:04}.png": person()})
    (tmp_path / "labels.txt").write_text("\n".join(NAMES) + "\n")
    return tmp_path


@pytest.fixture
def packed(tmp_path):
    """A flat folder in the layout of classner/generating_people."""
    labels = np.choose(person(), [0, 2, 11, 4, 6, 16, 9]).astype(np.uint8)
    body = np.uint8(person() > 0) * 3
    write(tmp_path, "{:04}_image.png", {"{:04}_labels.png": labels, "{:04}_bodysegments.png": body})
    return tmp_path


def test_each_label_has_one_class_and_every_class_but_the_background_has_labels():
    labels = " ".join(CCP_LABELS.values()).split()
    assert len(labels) == len(set(labels)) and set(CCP_LABELS) == set(CHICTOPIA_LABELS) == set(CLOTHING[1:])
    numbers = [number for part in CHICTOPIA_LABELS.values() for number in part]
    assert len(numbers) == len(set(numbers)) and set(range(22)) - set(numbers) == {0, 16}  # background, bag


def test_labels_become_classes_and_skin_is_divided_by_height(parsed):
    source = ccp(str(parsed), (48, 32))
    assert [len(split.x) for split in (source.train, source.test)] == [10, 2]
    assert source.train.x.shape == (10, 3, 48, 32) and set(source.train.x[:, 0, 0, 0]) <= set(range(0, 240, 20))
    column = source.train.truth["sketch"][0, :, 16]
    expected = {5: "hair", 8: "face", 15: "top", 30: "bottom", 41: "legs", 43: "shoes", 46: "background"}
    assert {row: CLOTHING[column[row]] for row in expected} == expected
    side = source.train.truth["sketch"][0, 15]
    assert side[9] == CLASS["arms"] and side[24] == CLASS["background"]  # bare arm, and bag
    assert (source.train.truth["sketch"] == source.train.truth["sketch"][:1]).all()


def test_a_pose_is_the_silhouette_with_head_and_feet(parsed):
    truth = ccp(str(parsed), (48, 32)).test.truth
    np.testing.assert_array_equal(truth["pose"] > 0, truth["sketch"] > 0)
    column = truth["pose"][0, :, 16]
    assert [CCP_PARTS[column[row]] for row in (5, 8, 15, 30, 41, 43)] == ["head"] * 2 + ["body"] * 3 + ["feet"]


def test_a_picture_of_another_shape_is_cropped_around_its_centre(parsed):
    sketch = ccp(str(parsed), (24, 24)).train.truth["sketch"][0]  # the middle 64 rows of 96
    assert sketch.shape == (24, 24) and sketch[0, 12] == CLASS["face"] and sketch[23, 12] == CLASS["bottom"]


def test_the_layout_of_clothnet_s_own_data(packed):
    source = chictopia(str(packed), (48, 32))
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


def test_wrong_files_are_named(parsed):
    (parsed / "labels/0003.png").unlink()
    breaks(ccp, parsed, r"photos/0003\.jpg has no labels: expected .*labels/0003\.png")
    Image.fromarray(person()[:90]).save(parsed / "labels/0003.png")
    breaks(ccp, parsed, r"labels/0003\.png has the shape \(90, 64\) and .*0003\.jpg \(96, 64\)")
    Image.fromarray(person() + np.uint8(5)).save(parsed / "labels/0003.png")
    breaks(ccp, parsed, r"labels/0003\.png has the label 11: expected at most 6")
    (parsed / "labels/0003.png").write_bytes(b"no picture")
    breaks(ccp, parsed, r"labels/0003\.png cannot be read as a picture")
    (parsed / "labels.txt").unlink()
    breaks(ccp, parsed, r"labels\.txt is missing")
    breaks(ccp, parsed / "nowhere", r"nowhere is not a folder")


def test_wrong_files_of_the_other_layout_are_named(packed):
    (packed / "0002_bodysegments.png").unlink()
    breaks(chictopia, packed, r"0002_image\.png has no labels: expected .*0002_bodysegments\.png")
    for file in packed.glob("*_image.png"):
        file.unlink()
    breaks(chictopia, packed, r"has no picture \*_image\.png")
