from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from bench.core import InputError
from bench.datasets import load, prepare
from bench.datasets.palettes import palette_pictures
from bench.parts.colours import rgb_to_lab

COLOURS = ["#E1E8ED", "#AEB0C8", "#204060", "#C03028", "#109030", "#F0D000"]
PALETTE = "{" + ",".join(COLOURS) + "}"
PICTURES = 15


def lightness(pictures: np.ndarray) -> torch.Tensor:
    return rgb_to_lab(torch.from_numpy(pictures / 255))[:, 0]


def test_pairs_are_one_picture_in_two_hues_with_its_lightness(palette_folder):
    source = palette_pictures(str(palette_folder), size=(8, 12), shifts=3)
    data = prepare(source)
    assert len(data.train.x) + len(data.validation.x) + len(data.test.x) == 3 * PICTURES
    assert data.shapes == ((3, 8, 12), 0, (3, 8, 12), {"palette": (6, 3)})
    for split in (source.train, source.test):
        assert (lightness(split.x) - lightness(split.source)).abs().max() < 1
        assert (split.x != split.source).mean() > 0.5
    assert not set(source.train.group) & set(source.test.group)


def test_a_palette_is_shifted_like_its_picture(palette_folder):
    """Pictures of one colour whose palettes are of that colour stay so."""
    for file in palette_folder.rglob("*.png"):
        Image.new("RGB", (8, 8), "#C06030").save(file)
    table = palette_folder / "palettes.tsv"
    table.write_text(table.read_text().replace(PALETTE, ",".join(["#C06030"] * 6)))
    train = palette_pictures(str(palette_folder), size=8).train
    colour = np.rint(255 * train.conditions["palette"])
    assert (colour == train.x[:, :, 4, 4][:, None]).all()
    assert len(np.unique(colour[:, 0], axis=0)) > 100


def test_a_comma_separated_table_elsewhere_is_read_too(palette_folder, tmp_path_factory):
    table = tmp_path_factory.mktemp("table") / "mine.csv"
    table.write_text("\ufefffile,palette\n" + "\n".join(f'{i}.png,"{" ".join(COLOURS)}"' for i in range(PICTURES)))
    other = palette_pictures(str(palette_folder), str(table), size=8, shifts=2)
    (one := palette_pictures(str(palette_folder), size=8, shifts=2))
    assert (one.train.x == other.train.x).all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("#F0D000}", "#F0D000,#000000}", r"palettes\.tsv, line 2: the palette .* has 7 colours: expected 6"),
        (PALETTE, "", r"palettes\.tsv, line 2: the palette .* has 0 colours: expected 6"),
        ("#C03028", "#C0302", r"palettes\.tsv, line 2: #C0302 is not a colour"),
        ("media/0.png", "media/none.png", r"palettes\.tsv, line 2: there are 0 pictures 'none.png' below .*"),
        ("media/0.png", "other/1.png", r"palettes\.tsv, line 3: .*palettes\.tsv, line 2 names the picture 1\.png too"),
        ("\tmedia/0.png?size=big\t" + PALETTE, "", r"palettes\.tsv, line 2: there are 0 pictures '' below"),
        ("color_palette", "colours", r"palettes\.tsv has the columns .*: expected file and palette"),
    ],
)
def test_a_wrong_table_is_one_line_that_names_it(palette_folder, old, new, message):
    table = palette_folder / "palettes.tsv"
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=message) as caught:
        palette_pictures(str(palette_folder))
    assert "\n" not in str(caught.value)


def test_a_table_of_other_bytes_is_one_line_that_names_it(palette_folder):
    table = palette_folder / "palettes.tsv"
    table.write_bytes(table.read_bytes().replace(b"media/0", "m\u00e9dia/0".encode("latin1")))
    with pytest.raises(InputError, match=r"palettes\.tsv cannot be read as UTF-8") as caught:
        palette_pictures(str(palette_folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pictures", [0, 2])
def test_pictures_for_three_splits_are_needed(palette_folder, pictures):
    table = palette_folder / "palettes.tsv"
    table.write_text("\n".join(table.read_text().splitlines()[: 1 + pictures]))
    with pytest.raises(InputError, match=rf"palettes\.tsv has {pictures} pictures with palettes: .* at least three"):
        palette_pictures(str(palette_folder))


def test_a_damaged_picture_is_named(palette_folder):
    (palette_folder / "b" / "2.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"b/2\.png cannot be decoded: .*get it again"):
        palette_pictures(str(palette_folder))


def test_a_folder_without_a_table_says_what_is_expected(palette_folder):
    (palette_folder / "palettes.tsv").unlink()
    with pytest.raises(InputError, match=r"found 0 of .*palettes\.csv, .*palettes\.tsv: expected one table"):
        palette_pictures(str(palette_folder))
    with pytest.raises(InputError, match=r"dataset\.root=None: expected a folder of pictures"):
        palette_pictures()


def test_it_loads_by_its_options(palette_folder):
    options = {"_target_": "bench.datasets.palettes.palette_pictures", "root": str(palette_folder), "size": 8}
    assert load(options).shapes.provides == ("source", "palette")
