"""Baselines of recolouring without gradient descent. All of them keep the lightness of the source."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from bench.core import Model
from bench.data import Batch, Data, Shapes
from bench.draws import Draws
from bench.parts.colours import check_recolourable, ciede2000, k_means, rgb_to_lab, with_lightness_of

CHUNK = 1000  # training examples that are read at once


def palette_ab(batch: Batch) -> Tensor:
    """a* and b* of the colours of the palettes, [B, colours, 2]."""
    return rgb_to_lab(batch.conditions["palette"], dim=-1)[:, :, 1:]


class ColourTransfer(Model):
    """a* and b* get the mean and the standard deviation of the palette's colours (after Reinhard et al. 2001)."""

    players = ()

    def __init__(self, shapes: Shapes):
        super().__init__()
        check_recolourable(shapes)

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        source, target = rgb_to_lab(batch.input)[:, 1:].flatten(2), palette_ab(batch).mT
        mean, deviation = source.mean(2, keepdim=True), source.std(2, correction=0, keepdim=True)
        standard = (source - mean) / deviation.clamp(min=1)  # at least 1, so that a source of a single colour stays one
        ab = standard * target.std(2, correction=0, keepdim=True) + target.mean(2, keepdim=True)
        return with_lightness_of(batch.input, ab.unflatten(2, batch.input.shape[2:]))


class KMeansRecolouring(Model):
    """Each k-means cluster of the source's colours gets a colour of the palette (after Chang et al. 2015).

    match: which cluster gets which colour. lightness: both are sorted by lightness; size: the largest cluster gets the
    first colour, and so on; oracle: each cluster gets the colour nearest to the target, an upper bound.
    """

    players = ()

    def __init__(self, shapes: Shapes, match: Literal["lightness", "size", "oracle"] = "lightness"):
        super().__init__()
        check_recolourable(shapes)
        self.match = match

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        palette = rgb_to_lab(batch.conditions["palette"], dim=-1)
        lab, count = rgb_to_lab(batch.input).flatten(2).mT, palette.shape[1]
        centres, cluster = k_means(lab, count)
        member = cluster[..., None] == torch.arange(count, device=lab.device)  # [B, H W, clusters]
        if self.match == "oracle":
            entry = self._nearest(batch, lab, palette, member)
        elif self.match == "size":
            entry = member.sum(1).argsort(descending=True, stable=True).argsort()
        else:
            rank = centres[:, :, 0].argsort().argsort()
            entry = palette[:, :, 0].argsort().gather(1, rank)
        colour = entry.gather(1, cluster)[..., None].expand(-1, -1, 2)
        ab = palette[:, :, 1:].gather(1, colour).mT
        return with_lightness_of(batch.input, ab.unflatten(2, batch.input.shape[2:]))

    def _nearest(self, batch: Batch, lab: Tensor, palette: Tensor, member: Tensor) -> Tensor:
        """The index of the colour that brings each cluster nearest to the target, [B, clusters]."""
        truth = rgb_to_lab(batch.x).flatten(2).mT
        costs = []
        for colour in palette[:, :, 1:].unbind(1):
            candidate = torch.cat([lab[:, :, :1], colour[:, None].expand(-1, lab.shape[1], -1)], 2)
            costs.append((ciede2000(candidate, truth, dim=-1)[..., None] * member).sum(1))
        return torch.stack(costs, 2).argmin(2)


class BlindRecolouring(Model):
    """a* and b* of each pixel are a linear function of those of the palette, whatever the source shows.

    The function is fitted to the training images by least squares. It is the average picture in the palette's colours.
    """

    players = ()
    weight: Tensor

    def __init__(self, shapes: Shapes):
        super().__init__()
        check_recolourable(shapes)
        height, width = shapes.x[1:]
        self.register_buffer("weight", torch.zeros(shapes.conditions["palette"][0], height, width))

    def fit(self, data: Data, draws: Draws) -> None:
        colours = self.weight.shape[0]
        square = torch.zeros(colours, colours, dtype=torch.float64)
        product = torch.zeros(colours, self.weight[0].numel(), dtype=torch.float64)
        for start in range(0, len(data.train.x), CHUNK):
            batch = data.read(data.train.rows(slice(start, start + CHUNK)), draws.within(str(start))).to("cpu")
            palette = palette_ab(batch).mT.flatten(0, 1).double()  # [2 B, colours]
            square += palette.T @ palette
            product += palette.T @ rgb_to_lab(batch.x)[:, 1:].flatten(2).flatten(0, 1).double()
        self.weight.copy_(torch.linalg.lstsq(square, product, driver="gelsd").solution.view_as(self.weight))

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        return with_lightness_of(batch.input, torch.einsum("brc,rhw->bchw", palette_ab(batch), self.weight))
