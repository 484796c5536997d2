"""Pictures of images, of waves and of voxels, as arrays of bytes, for the strips and grids of a report."""

from __future__ import annotations

import numpy as np

from bench.rays import first_hits

THRESHOLD = 0.5  # a voxel above it is occupied
AZIMUTH, ELEVATION = 35.0, 25.0  # degrees
SMOOTH = 2  # rays per pixel in each direction: their mean smooths the edges
SHAPE = np.array([170, 205, 245], np.float32)  # the colour of a shape in full light
LIGHT = np.array([0.74, 1.0, 0.46], np.float32)  # on faces perpendicular to depth, rows and columns
FOG = 0.3  # the share of its light that the farthest corner lacks

PAPER, INK = 250, 60  # grey
SILENCE = 0.5  # a wave in [0, 1] swings around it
FRAME = 256  # samples whose spectrum is a column of a spectrogram
DECIBELS = 80.0  # below a sine of full scale: what is quieter is white


def draw(examples: np.ndarray, sides: int) -> np.ndarray:
    """Pictures [..., C, H, W] uint8 of examples [..., C, *sides] in [0, 1], clipped to it. sides: their number.

    Images stay what they are. A wave is drawn above its spectrogram; of volumes the mean over channels is drawn.
    """
    lead, examples = examples.shape[: -1 - sides], examples.clip(0, 1)
    flat = examples.reshape(-1, *examples.shape[len(lead) :])
    if sides == 1:
        made = np.concatenate([draw_waves(flat), draw_spectrograms(flat)], 2)
    else:
        made = draw_voxels(flat.mean(1)) if sides == 3 else np.rint(flat * 255).astype(np.uint8)
    return made.reshape(*lead, *made.shape[1:])


def draw_voxels(
    shapes: np.ndarray, side: int = 64, azimuth: float = AZIMUTH, elevation: float = ELEVATION
) -> np.ndarray:
    """Shaded pictures [N, 3, side, side] uint8 of voxels [N, D, H, W] in [0, 1], seen from the front right and above.

    azimuth, elevation: as in `bench.rays.axes`.
    """
    hits = first_hits(shapes > THRESHOLD, SMOOTH * side, azimuth, elevation)
    is_hit = hits.face >= 0
    fog = FOG / np.float32(hits.reach) * np.where(is_hit, hits.depth, 0)
    cover, light = (_reduced(part) for part in (is_hit.astype(np.float32), is_hit * LIGHT[hits.face] * (1 - fog)))
    colour = SHAPE[:, np.newaxis, np.newaxis] * light[:, np.newaxis]
    return np.rint(colour + PAPER * (1 - cover[:, np.newaxis])).astype(np.uint8)


def pack_voxels(shapes: np.ndarray) -> np.ndarray:
    """The occupied voxels of [N, D, H, W] in [0, 1], 8 to a byte: [N, bytes] uint8, what voxels.js draws in base64.

    The first voxel is the highest bit of the first byte. A shape of 32^3 has 4 kB.
    """
    return np.packbits(shapes.reshape(len(shapes), -1) > THRESHOLD, axis=1)


def _reduced(images: np.ndarray) -> np.ndarray:
    """The mean over blocks of SMOOTH x SMOOTH pixels: [N, H, W] -> [N, H / SMOOTH, W / SMOOTH]."""
    count, height, width = images.shape
    return images.reshape(count, height // SMOOTH, SMOOTH, width // SMOOTH, SMOOTH).mean((2, 4))


def draw_waves(waves: np.ndarray, height: int = 48, width: int = 160) -> np.ndarray:
    """Pictures [N, 1, height, width] uint8 of waves [N, C, T] in [0, 1]; 1 is at the top, and all channels are drawn.

    A column is dark from the lowest to the highest value of its samples, and at least a pixel of it.
    """
    first = np.arange(width) * waves.shape[2] // width
    low, high = np.minimum.reduceat(waves.min(1), first, 1), np.maximum.reduceat(waves.max(1), first, 1)
    # The line goes on to the first sample of the next column.
    joined = waves[:, :, np.append(first[1:], -1)]
    low, high = np.minimum(low, joined.min(1)) * height, np.maximum(high, joined.max(1)) * height  # in pixels
    thin = np.maximum(0, 1 - (high - low)) / 2
    low, high = ((end + sign * thin)[:, np.newaxis] for end, sign in ((low, -1), (high, 1)))
    row = np.arange(height)[::-1, np.newaxis]
    cover = np.clip(np.minimum(high, row + 1) - np.maximum(low, row), 0, 1)
    return np.rint(PAPER + (INK - PAPER) * cover[:, np.newaxis]).astype(np.uint8)


def draw_spectrograms(waves: np.ndarray, height: int = 64, width: int = 160) -> np.ndarray:
    """Spectrograms [N, 1, height, width] uint8 of waves [N, C, T] in [0, 1]: time to the right, frequency upwards.

    The mean power of the channels in frames of FRAME samples under a Hann window, from white at -DECIBELS or less to
    INK at 0 dB, the power of a sine between 0 and 1. The top is half of the sampling rate.
    """
    swing = 2 * (waves.astype(np.float32) - SILENCE)
    swing = np.pad(swing, ((0, 0), (0, 0), (0, max(0, FRAME - swing.shape[2]))))
    start = np.linspace(0, swing.shape[2] - FRAME, width).astype(int)
    window = np.hanning(FRAME + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(swing, FRAME, 2)[:, :, start]
    power = (np.abs(np.fft.rfft(frames * window)) / (window.sum() / 2)) ** 2  # [N, C, width, FRAME / 2 + 1]
    bands = np.arange(height) * power.shape[3] // height
    loudest = np.maximum.reduceat(power.mean(1), bands, 2)[:, :, ::-1].transpose(0, 2, 1)
    level = np.clip(1 + 10 * np.log10(np.maximum(loudest, 1e-12)) / DECIBELS, 0, 1)
    return np.rint(PAPER + (INK - PAPER) * level[:, np.newaxis]).astype(np.uint8)
