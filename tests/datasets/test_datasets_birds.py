from __future__ import annotations

import numpy as np
import pytest

from bench.core import InputError
from bench.datasets import load
from bench.datasets.birds import (
    ATTRIBUTES,
    COLOURS,
    GROUNDS,
    HELD_OUT,
    SYNONYMS,
    TEMPLATES,
    VOCABULARY,
    birds,
    captions_of,
    draw,
)

MEANINGS = {**{word: word for values in ATTRIBUTES.values() for word in values}, **{v: k for k, v in SYNONYMS.items()}}


@pytest.fixture(scope="module")
def source():
    return birds(size=32, examples=1000)


def attributes(**values: str) -> np.ndarray:
    known = {"body": "red", "wing": "blue", "beak": "long", "size": "large", "facing": "right", "ground": "sky"}
    chosen = known | values
    return np.array([[ATTRIBUTES[name].index(value) for name, value in chosen.items()]])


def image(seed: int = 0, pixels: int = 64, **values: str) -> np.ndarray:
    """[3, pixels, pixels], from 0 to 1."""
    return draw(attributes(**values), pixels, np.random.default_rng(seed))[0] / 255


def near(picture: np.ndarray, colour: str) -> np.ndarray:
    """Which pixels are nearest to a colour, [H, W]."""
    known = np.array([*COLOURS.values(), *GROUNDS.values()]) / 255
    distance = ((picture[np.newaxis] - known[:, :, np.newaxis, np.newaxis]) ** 2).sum(1)
    return distance.argmin(0) == list(COLOURS).index(colour)


def words_of(caption: np.ndarray) -> list[str]:
    """The words of a caption [words, V], which end before the first row without one."""
    is_word = caption.any(1)
    assert (caption.sum(1) == is_word).all() and (is_word.all() or not is_word[np.argmin(is_word) :].any())
    return [VOCABULARY[row.argmax()] for row in caption if row.any()]


# --- pictures


@pytest.mark.parametrize("body", ["red", "yellow", "blue", "white"])
@pytest.mark.parametrize("wing", ["green", "purple", "black"])
def test_body_and_wing_have_their_colours_and_the_wing_is_inside_the_body(body, wing):
    for seed in range(5):
        picture = image(seed, body=body, wing=wing, beak="short", ground="water")
        on_body, on_wing = near(picture, body), near(picture, wing)
        assert on_body.sum() > on_wing.sum() > 40
        rows, columns = np.nonzero(on_wing)
        body_rows, body_columns = np.nonzero(on_body)
        assert body_rows.min() < rows.mean() < body_rows.max()
        assert body_columns.min() < columns.mean() < body_columns.max()


def test_a_larger_bird_covers_more():
    def area(size: str) -> float:
        pictures = [image(seed, size=size) for seed in range(8)]
        return float(np.mean([(near(picture, "red") | near(picture, "blue")).sum() for picture in pictures]))

    areas = {size: area(size) for size in ATTRIBUTES["size"]}
    assert areas["small"] * 1.3 < areas["medium"] and areas["medium"] * 1.3 < areas["large"]


def test_a_long_beak_reaches_farther_in_front_of_the_body():
    def beak(length: str, seed: int) -> int:
        """Columns with the colour of the beak."""
        return int(near(image(seed, beak=length), "orange").any(0).sum())

    for seed in range(5):
        assert beak("long", seed) > beak("short", seed) + 4


def test_the_mirror_image_of_a_bird_faces_the_other_way():
    for seed in range(3):
        right, left = image(seed, facing="right"), image(seed, facing="left")
        for colour in ("red", "blue"):
            # The texture of the ground is not mirrored, and pixels at an edge mix with it.
            assert (near(right, colour) != near(left, colour)[:, ::-1]).mean() < 0.02


def test_grounds_differ_in_colour_and_texture():
    def roughness(ground: str, axis: int) -> float:
        corners = [image(seed, ground=ground, size="small")[:, :16] for seed in range(20)]
        return float(np.mean([np.abs(np.diff(corner, axis=axis)).mean() for corner in corners]))

    down, across = ({ground: roughness(ground, axis) for ground in GROUNDS} for axis in (1, 2))
    assert across["grass"] > 2 * down["grass"] and down["water"] > 1.3 * across["water"]
    assert down["sand"] > 2 * down["sky"] and across["sand"] > 2 * across["sky"]


def test_the_whole_bird_is_inside_at_many_places():
    middles = []
    for seed in range(40):
        picture = image(seed, size="small", wing="red", beak="long", ground="sky")
        on_bird = near(picture, "red") | near(picture, "orange")
        assert not on_bird[[0, -1]].any() and not on_bird[:, [0, -1]].any()
        middles.append(np.array(np.nonzero(on_bird)).mean(1) / 64)
    assert np.std(middles, axis=0).min() > 0.1


# --- captions


def test_each_caption_says_all_attributes_and_nothing_else(source):
    caption, truth = source.test.conditions["caption"], source.test.truth
    assert caption.dtype == bool and caption.shape[1] == len(TEMPLATES) >= 5 and caption.shape[3] == len(VOCABULARY)
    for i in range(30):
        said = {name: ATTRIBUTES[name][truth[name][i]] for name in ATTRIBUTES}
        for words in map(words_of, caption[i]):
            values = sorted(MEANINGS[word] for word in words if MEANINGS.get(word) in said.values())
            assert values == sorted(said.values())
            # The two colours differ only by the word beside them.
            text = " ".join(MEANINGS.get(word, word) for word in words)
            wing, body = said["wing"], said["body"]
            assert f"{wing} wing" in text or f"wings {wing}" in text
            assert any(f"{a} {b}" in text for a, b in [(body, "bird"), (body, "body"), ("body", body)])


def test_synonyms_are_used_as_often_as_the_words():
    caption = captions_of(np.repeat(attributes(), 400, axis=0), np.random.default_rng(0))
    counts = dict(zip(VOCABULARY, caption.sum((0, 1, 2)), strict=True))
    for word, synonym in SYNONYMS.items():
        if counts[word]:
            assert counts[synonym] == pytest.approx(counts[word], rel=0.2)
    assert {word for word, count in counts.items() if count} >= {"red", "crimson", "blue", "azure", "bird"}


# --- splits


def test_held_out_pairs_are_half_of_the_test_images_and_never_trained_on(source):
    def pairs(split):
        return list(zip(split.truth["body"].tolist(), split.truth["wing"].tolist(), strict=True))

    held_out = np.array([pair in HELD_OUT for pair in pairs(source.test)])
    np.testing.assert_array_equal(held_out, source.test.truth["subset"])
    assert held_out.mean() == 0.5 and source.vocabulary["subset"] == ("seen", "held_out")
    assert not set(pairs(source.train)) & set(HELD_OUT) and "subset" not in source.train.truth
    assert len(set(pairs(source.train))) == 64 - 12


def test_each_colour_of_a_held_out_pair_is_trained_on_in_other_pairs():
    assert len(set(HELD_OUT)) == 12
    for position in (0, 1):
        assert set(np.bincount([pair[position] for pair in HELD_OUT], minlength=8)) == {1, 2}


def test_judges_learn_from_all_pairs(source):
    truth = source.judging.truth
    pairs = set(zip(truth["body"].tolist(), truth["wing"].tolist(), strict=True))
    assert len(pairs) == 64 and len(source.judging.x) == 500 and truth.keys() == ATTRIBUTES.keys()
    assert not {x.tobytes() for x in source.judging.x} & {x.tobytes() for x in source.test.x}


def test_another_image_of_a_caption_has_the_same_attributes_at_another_place(source):
    x, again = source.test.x / 255, source.test.truth["x_again"] / 255
    difference, shuffled = np.abs(x - again).mean(), np.abs(x - again[::-1]).mean()
    assert 0.02 < difference < 0.8 * shuffled


def test_attributes_are_uniform_and_have_names(source):
    for name, values in ATTRIBUTES.items():
        assert source.vocabulary[name] == values and source.train.truth[name].dtype == np.int64
        shares = np.bincount(source.train.truth[name], minlength=len(values)) / len(source.train.x)
        assert np.abs(shares - 1 / len(values)).max() < 0.06


def test_everything_but_the_pixels_is_the_same_at_another_size(source):
    small, again, other = (birds(size=16, examples=1000, data_seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(small.train.x, again.train.x)
    np.testing.assert_array_equal(small.train.conditions["caption"], source.train.conditions["caption"])
    assert not np.array_equal(small.train.x, other.train.x)
    halved = source.train.x.reshape(-1, 3, 16, 2, 16, 2).mean((3, 5))
    assert np.abs(halved - small.train.x).mean() < 6  # grey levels of 255


@pytest.mark.parametrize(
    "change", [{"examples": 20_001}, {"examples": 11}, {"size": 15}, {"size": 129}, {"data_seed": -1}]
)
def test_a_wrong_option_is_named(change):
    ((name, value),) = change.items()
    with pytest.raises(InputError, match=rf"^dataset\.{name}={value}: Input should be "):
        load({"_target_": "bench.datasets.birds.birds"} | change)
