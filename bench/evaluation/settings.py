"""What an evaluation is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from bench.core import Count, Level, Positive


@dataclass(frozen=True)
class EvaluationSettings:
    """The values of the metrics group. What is None in an ais_* is what fits a device.

    names: of metrics, None being all there are; noise_levels: at which those of corrupted images are taken, too;
    samples: images drawn from the prior; iw: importance sampling; ais: annealed importance sampling, with so many
    chains an image and temperatures a chain; ais_sigma: of the Gaussian that all models are observed through, None
    being the one that validation images ask for.
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
        """Its numbers for a device: about ten minutes of two cores, and on a GPU those of Wu et al. (2017)."""
        images, chains, temperatures = (100, 8, 1000) if device.type == "cpu" else (1000, 16, 10_000)
        return replace(
            self,
            ais_images=self.ais_images or images,
            ais_chains=self.ais_chains or chains,
            ais_temperatures=self.ais_temperatures or temperatures,
        )
