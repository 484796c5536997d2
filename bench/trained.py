"""A finished run's model, for use from Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from bench import record
from bench.check import build
from bench.core import Batch, InputError, Model, Shapes
from bench.draws import Draws


@dataclass(frozen=True)
class Trained:
    """model: the trained model itself, in evaluation mode; record: what its record.json says."""

    model: Model
    record: dict[str, Any]

    @torch.no_grad()
    def encode(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Codes [N, latent_dim] of images [N, C, H, W] in [0, 1]: the posterior's mean. label: [N], if conditional."""
        return self.model.encode(Batch(x, x, label)).mean

    @torch.no_grad()
    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Mean images [N, C, H, W] of codes [N, latent_dim]."""
        blank = torch.zeros(len(z), *self.record["data"]["image"])
        return self.model.decode(z, Batch(blank, blank, label)).mean

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0, label: Tensor | None = None) -> Tensor:
        """Mean images [n, C, H, W] of draws from the prior; label: [n], if conditional."""
        return self.model.sample(n, Draws(seed, "sample"), label)


def load_trained(run_folder: Path, seed: int) -> Trained:
    """Raises InputError where the run, the seed or its weights are missing."""
    folder = record.seed_folder(run_folder, seed)
    found = record.read(folder)
    weights = folder / record.WEIGHTS
    if found["status"] != "ok" or not weights.is_file():
        raise InputError(f"{folder} holds no trained weights: its status is {found['status']} ({found['reason']})")
    image = tuple(found["data"]["image"])
    model = build(found["config"], Shapes(image, found["data"]["classes"]), seed)
    model.load_state_dict(load_file(weights))
    return Trained(model.eval(), found)
