from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.core import SkipError
from bench.data import Batch, Data, Shapes, Split
from bench.draws import Draws
from bench.models.colour_baselines import BlindRecolouring, ColourTransfer, KMeansRecolouring, palette_ab
from bench.parts.colours import lab_to_rgb, rgb_to_lab, with_lightness_of

GENERATOR = torch.Generator().manual_seed(0)
LIGHTNESS = torch.tensor([35.0, 45.0, 50.0, 55.0, 60.0, 70.0])
SHAPES = Shapes((3, 6, 8), 0, (3, 6, 8), {"palette": (6, 3)})


def mild_colours(n: int, colours: int = 6) -> Tensor:
    """a* and b* that sRGB has at LIGHTNESS, [n, colours, 2]."""
    return 24 * torch.rand(n, colours, 2, generator=GENERATOR) - 12


def palette_of(ab: Tensor) -> Tensor:
    return lab_to_rgb(torch.cat([LIGHTNESS.expand(len(ab), -1)[..., None], ab], -1), dim=-1)


def stripes(colours: Tensor, order: list[int], widths: list[int]) -> Tensor:
    """Pictures [n, 3, 6, sum of widths] of the colours [n, 6, 3] in this order."""
    index = torch.tensor(order).repeat_interleave(torch.tensor(widths))
    return colours[:, index].mT[:, :, None].expand(-1, -1, 6, -1)


def test_colour_transfer_gives_mean_and_deviation_of_the_palette():
    source = lab_to_rgb(torch.cat([50 + mild_colours(3, 48)[..., :1], mild_colours(3, 48)], -1).mT.unflatten(2, (6, 8)))
    target = mild_colours(3)
    made = ColourTransfer(SHAPES).translate(Batch(source, source, None, {"palette": palette_of(target)}), Draws(0))
    lab = rgb_to_lab(made).flatten(2)
    torch.testing.assert_close(lab[:, 0], rgb_to_lab(source).flatten(2)[:, 0], atol=1e-2, rtol=0)
    torch.testing.assert_close(lab[:, 1:].mean(2), target.mean(1), atol=0.05, rtol=0)
    torch.testing.assert_close(lab[:, 1:].std(2, correction=0), target.std(1, correction=0), atol=0.1, rtol=0)


def test_k_means_matches_clusters_by_lightness_by_size_or_by_the_truth():
    own, target = palette_of(mild_colours(4)), palette_of(mild_colours(4))
    order, widths = [4, 2, 0, 5, 1, 3], [6, 5, 4, 3, 2, 1]
    source = stripes(own, order, widths)

    def truth(roles: list[int]) -> Tensor:
        """The source in the target's colours, if the stripes have these roles."""
        return with_lightness_of(source, stripes(rgb_to_lab(target, -1), roles, widths)[:, 1:])

    def made(match: str, x: Tensor) -> Tensor:
        batch = Batch(x, source, None, {"palette": target})
        return KMeansRecolouring(SHAPES, match).translate(batch, Draws(0))

    by_lightness, by_size, by_truth = truth(order), truth([0, 1, 2, 3, 4, 5]), truth([1, 1, 0, 3, 5, 2])
    for match, expected in (("lightness", by_lightness), ("size", by_size), ("oracle", by_truth)):
        torch.testing.assert_close(made(match, by_truth), expected, atol=1e-4, rtol=0)


def test_the_blind_baseline_recovers_the_average_design_and_ignores_the_source():
    share = torch.rand(6, 6, 8, generator=GENERATOR).softmax(0)
    palette = palette_of(mild_colours(200))
    source = lab_to_rgb(torch.cat([50 + 0 * share[:1], mild_colours(1, 48)[0].T.unflatten(1, (6, 8))])[None])
    source = source.expand(200, -1, -1, -1)
    given = Batch(source, source, None, {"palette": palette})
    x = with_lightness_of(source, torch.einsum("brc,rhw->bchw", palette_ab(given), share))
    split = Split(x, source=source, conditions={"palette": palette})
    data = Data(split, split, split, SHAPES, grey_levels=256, binarize="none", dequantize=False, fingerprint="")
    model = BlindRecolouring(SHAPES)
    model.fit(data, Draws(0))
    torch.testing.assert_close(model.weight, share, atol=1e-3, rtol=0)
    torch.testing.assert_close(model.translate(given, Draws(0)), x, atol=1e-3, rtol=0)
    grey = rgb_to_lab(source)[:, :1].expand(-1, 3, -1, -1) * torch.tensor([1.0, 0, 0])[:, None, None]
    assert torch.allclose(model.translate(given._replace(input=lab_to_rgb(grey)), Draws(0)), x, atol=2e-3)


@pytest.mark.parametrize("kind", [ColourTransfer, KMeansRecolouring, BlindRecolouring])
def test_grey_pictures_are_skipped(kind):
    with pytest.raises(SkipError, match="three channels"):
        kind(SHAPES._replace(x=(1, 6, 8)))
