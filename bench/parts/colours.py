"""Colours: sRGB and CIE L*a*b* (white point D65), the colour difference CIEDE2000, and the main colours of a picture.

`dim` is the dimension of three channels: 1 of pictures [B, 3, H, W], -1 of palettes [B, colours, 3]. sRGB lies in
[0, 1]; L* in [0, 100]; a* (green to red) and b* (blue to yellow) of sRGB colours in about [-108, 98].
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core import SkipError
from bench.data import Shapes

# IEC 61966-2-1: linear RGB to XYZ with Y = 1 for white. The white point is R = G = B = 1, so a* = b* = 0 for greys.
XYZ_OF_RGB = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
DELTA = 6 / 29  # below its cube, CIE L*a*b* has a line in place of the cube root
GAMUT_STEPS = 10  # bisections, so the factor of the chroma is exact to 1/1024


def _matrix(like: Tensor) -> tuple[Tensor, Tensor]:
    """RGB to XYZ divided by the white point, [3, 3], and its inverse."""
    matrix = torch.tensor(XYZ_OF_RGB, dtype=torch.float64)
    matrix = matrix / matrix.sum(1, keepdim=True)
    return matrix.to(like), torch.linalg.inv(matrix).to(like)


def _mix(matrix: Tensor, x: Tensor, dim: int) -> Tensor:
    return (x.movedim(dim, -1) @ matrix.T).movedim(-1, dim)


def rgb_to_lab(rgb: Tensor, dim: int = 1) -> Tensor:
    """sRGB in [0, 1] -> (L*, a*, b*), of the same shape."""
    # Both branches of a `where` get gradients, so powers are taken only of values with a finite derivative.
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp(min=0.04) + 0.055) / 1.055) ** 2.4)
    xyz = _mix(_matrix(rgb)[0], linear, dim)
    root = torch.where(xyz > DELTA**3, xyz.clamp(min=DELTA**3) ** (1 / 3), xyz / (3 * DELTA**2) + 4 / 29)
    x, y, z = root.unbind(dim)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim)


def _cube(root: Tensor) -> Tensor:
    return torch.where(root > DELTA, root**3, 3 * DELTA**2 * (root - 4 / 29))


def lab_to_rgb(lab: Tensor, dim: int = 1) -> Tensor:
    """(L*, a*, b*) -> sRGB, of the same shape. Colours outside sRGB have values below 0 or above 1."""
    lightness, a, b = lab.unbind(dim)
    y = (lightness + 16) / 116
    linear = _mix(_matrix(lab)[1], _cube(torch.stack([y + a / 500, y, y - b / 200], dim)), dim)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp(min=0.003) ** (1 / 2.4) - 0.055)


def to_gamut(lab: Tensor, dim: int = 1) -> Tensor:
    """The nearest sRGB colours of the same lightness and hue: a* and b* times the largest factor that fits.

    lab: L* in [0, 100]. Clipping RGB would change the lightness.
    """
    lightness, a, b = lab.unbind(dim)
    rows = _matrix(lab)[1].unbind(0)
    root = (lightness + 16) / 116
    y = _cube(root)

    def fits(factor: Tensor) -> Tensor:
        x, z = _cube(root + factor * (a / 500)), _cube(root - factor * (b / 200))
        rgb = [row[0] * x + row[1] * y + row[2] * z for row in rows]
        low, high = (pick(pick(rgb[0], rgb[1]), rgb[2]) for pick in (torch.minimum, torch.maximum))
        return (low >= 0) & (high <= 1)

    low, high = torch.zeros_like(root), torch.ones_like(root)
    low = torch.where(fits(high), high, low)
    for _ in range(GAMUT_STEPS):
        middle = (low + high) / 2
        inside = fits(middle)
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    return torch.stack([lightness, low * a, low * b], dim)


def with_lightness_of(source: Tensor, ab: Tensor) -> Tensor:
    """sRGB [B, 3, H, W] with the lightness of a source [B, 3, H, W] in sRGB, and with a* and b* [B, 2, H, W].

    If sRGB has no such colour, a* and b* are reduced; see `to_gamut`.
    """
    return lab_to_rgb(to_gamut(torch.cat([rgb_to_lab(source)[:, :1], ab], 1))).clamp(0, 1)


def check_recolourable(shapes: Shapes) -> None:
    """Raises SkipError unless sources and images have the same size and three channels."""
    if shapes.x[0] != 3 or len(shapes.x) != 3 or shapes.input != shapes.x:
        raise SkipError(
            f"recolouring needs images and sources of one size with three channels, not {shapes.x} and {shapes.input}; "
            "choose another data set"
        )


def ciede2000(lab: Tensor, other: Tensor, dim: int = 1) -> Tensor:
    """The colour difference CIEDE2000 of L*a*b* colours, without `dim` (Sharma, Wu & Dalal 2005, equations 2 to 22)."""
    (l1, a1, b1), (l2, a2, b2) = lab.unbind(dim), other.unbind(dim)

    def compressed(chroma: Tensor) -> Tensor:
        return (chroma**7 / (chroma**7 + 25**7)).sqrt()

    stretch = 1 + 0.5 * (1 - compressed((torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2))
    a1, a2 = stretch * a1, stretch * a2
    c1, c2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    h1, h2 = (torch.rad2deg(torch.atan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    grey = c1 * c2 == 0

    turn = h2 - h1
    turn = torch.where(turn > 180, turn - 360, torch.where(turn < -180, turn + 360, turn)).masked_fill(grey, 0)
    d_hue = 2 * (c1 * c2).sqrt() * torch.sin(torch.deg2rad(turn / 2))
    total = h1 + h2
    far = torch.where(total < 360, total + 360, total - 360)
    hue = torch.where(grey, total, torch.where((h1 - h2).abs() <= 180, total, far) / 2)
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2

    def cos(degrees: Tensor) -> Tensor:
        return torch.cos(torch.deg2rad(degrees))

    t = 1 - 0.17 * cos(hue - 30) + 0.24 * cos(2 * hue) + 0.32 * cos(3 * hue + 6) - 0.20 * cos(4 * hue - 63)
    s_l = 1 + 0.015 * (lightness - 50) ** 2 / (20 + (lightness - 50) ** 2).sqrt()
    s_c, s_h = 1 + 0.045 * chroma, 1 + 0.015 * chroma * t
    angle = torch.deg2rad(60 * torch.exp(-(((hue - 275) / 25) ** 2)))  # twice 30 degrees
    rotation = -2 * compressed(chroma) * torch.sin(angle)
    d_l, d_c, d_h = (l2 - l1) / s_l, (c2 - c1) / s_c, d_hue / s_h
    return (d_l**2 + d_c**2 + d_h**2 + rotation * d_c * d_h).clamp(min=0).sqrt()


def k_means(points: Tensor, k: int, steps: int = 10) -> tuple[Tensor, Tensor]:
    """The k centres [B, k, D] of points [B, N, D], and the index of the nearest centre of each point, [B, N].

    Lloyd's algorithm. Its initial centres are not random: the first is the point farthest from the mean, and each next
    one is the point farthest from those before (Gonzalez 1985). A centre without points stays where it is.
    """
    rows = torch.arange(len(points), device=points.device)
    distance = (points - points.mean(1, keepdim=True)).square().sum(2)
    found: list[Tensor] = []
    for _ in range(k):
        found.append(points[rows, distance.argmax(1)])
        nearest = (points - found[-1][:, None]).square().sum(2)
        distance = nearest if len(found) == 1 else torch.minimum(distance, nearest)
    centres = torch.stack(found, 1)
    for _ in range(steps):
        member = _nearest(points, centres)[..., None] == torch.arange(k, device=points.device)
        size = member.sum(1).to(points.dtype)  # [B, k]
        mean = member.to(points.dtype).mT @ points / size.clamp(min=1)[..., None]
        centres = torch.where(size[..., None] > 0, mean, centres)
    return centres, _nearest(points, centres)


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    return torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist").argmin(2)
