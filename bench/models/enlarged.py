"""Single-image super-resolution: a residual network adds detail to the enlarged source (Kim et al. 2016)."""

from __future__ import annotations

from torch import Tensor, nn

from bench.core import Count, Depth, Losses, Model
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.resizing import bicubic, check_resizable


class Enlarged(Model):
    """min |x - (bicubic(source) + network(bicubic(source)))|^2, summed over an image.

    width: channels of the convolutions; depth: their number. The last one is initialised to zero, so training starts
    from the baseline `Bicubic`. Translations are clipped to [0, 1], but not in the loss: clipping stops gradients.
    """

    def __init__(self, shapes: Shapes, width: Count = 32, depth: Depth = 5):
        super().__init__()
        check_resizable(shapes)
        self.sides = shapes.x[1:]
        widths = [shapes.x[0], *[width] * (depth - 1)]
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
        last = nn.Conv2d(widths[-1], shapes.x[0], 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.network = nn.Sequential(*layers, last)

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        return Losses({"model": (batch.x - self._enlarged(batch)).square().flatten(1).sum(1).mean()})

    def translate(self, batch: Batch, draws: Draws) -> Tensor:
        return self._enlarged(batch).clamp(0, 1)

    def _enlarged(self, batch: Batch) -> Tensor:
        resized = bicubic(batch.input, self.sides)
        return resized + self.network(resized)
