"""A finished run's model, for use from Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from bench.core import InputError, Model
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.runs import store
from bench.runs.config import build


@dataclass(frozen=True)
class Trained:
    """model: the trained model itself, in evaluation mode; record: what its record.json says."""

    model: Model
    record: dict[str, Any]

    @torch.no_grad()
    def encode(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Codes [N, latent_dim] of images [N, C, H, W] in [0, 1]: the posterior's mean. label: [N], if conditional."""
        return self.model.encode(Batch(x, x, self._checked(label))).mean

    @torch.no_grad()
    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Mean images [N, C, H, W] of codes [N, latent_dim]."""
        blank = z.new_zeros(len(z), *self.record["data"]["image"])
        return self.model.decode(z, Batch(blank, blank, self._checked(label))).mean

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0, label: Tensor | None = None) -> Tensor:
        """Mean images [n, C, H, W] of draws from the prior; label: [n], if conditional."""
        weights = next(iter(self.model.state_dict().values()))
        return self.model.sample(n, Draws(seed, "sample", device=weights.device), self._checked(label))

    def _checked(self, label: Tensor | None) -> Tensor | None:
        if self.model.conditional and label is None:
            raise InputError("this model is conditional: give label=, a class for each image")
        return label


def load_trained(run_folder: Path, seed: int) -> Trained:
    """Raises InputError where the run, the seed or its weights are missing."""
    found = store.read(store.seed_folder(run_folder, seed))
    if found["status"] != "ok":
        raise InputError(f"{found['folder']} is not a finished run: it is {found['status']} ({found['reason']})")
    return Trained(restored(found), found)


def restored(found: dict[str, Any]) -> Model:
    """A record's model with its saved weights, on the CPU. Raises InputError where they are missing."""
    weights = found["folder"] / store.WEIGHTS
    if not weights.is_file():
        raise InputError(f"{weights} does not exist: train the run again with rerun=true")
    channels, height, width = found["data"]["image"]
    model = build(found["config"], Shapes((channels, height, width), found["data"]["classes"]), found["seed"])
    try:
        model.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise InputError(
            f"{weights} are not those of this version's model: train the run again with rerun=true"
        ) from error
    return model.eval()
