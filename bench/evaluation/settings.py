"""The settings of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from bench.core import Count, Level, Positive


@dataclass(frozen=True)
class EvaluationSettings:
    """The values of the metrics group. `on` replaces each ais_* number that is None by a default for the device.

    names: which metrics, None for all of them; noise_levels: additional levels for the metrics of corrupted images;
    samples: number of images drawn from the prior; iw_images, iw_samples: importance sampling; ais_images, ais_chains
    (per image), ais_temperatures (per chain): annealed importance sampling; ais_sigma: the standard deviation of the
    Gaussian that all models share, None to fit it on validation images.
    """

    names: list[str] | None
    noise_levels: list[Level]
    samples: Count = 2000
    iw_images: Count = 1000
    iw_samples: Count = 5000
    ais_images: Count | None = None
    ais_chains: Count | None = None
    ais_temperatures: Count | None = None
    ais_sigma: Positive | None = None

    def on(self, device: torch.device) -> EvaluationSettings:
        """The settings for a device: about ten minutes on two CPU cores, and those of Wu et al. (2017) on a GPU."""
        images, chains, temperatures = (100, 8, 1000) if device.type == "cpu" else (1000, 16, 10_000)
        return replace(
            self,
            ais_images=self.ais_images or images,
            ais_chains=self.ais_chains or chains,
            ais_temperatures=self.ais_temperatures or temperatures,
        )
