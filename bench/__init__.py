"""latentbench: autoencoders, variational and adversarial ones, and GAN hybrids, compared on equal terms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.runs.trained import Trained

__version__ = "0.1.0"


def load(run_folder: str | Path, seed: int = 0) -> Trained:
    """A finished run's model: it encodes, decodes and samples. Raises InputError where there is no such run."""
    from bench.runs.trained import load_trained  # torch is imported only by those who train or load

    return load_trained(Path(run_folder), seed)
