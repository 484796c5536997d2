"""latentbench: autoencoders, variational and adversarial ones, and GAN hybrids, compared on equal terms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.runs.trained import Trained

__version__ = "0.1.0"


def load(run_folder: str | Path, seed: int = 0, allow: Sequence[str] = ()) -> Trained:
    """The trained model of a finished run: it encodes, decodes and samples.

    allow: the packages of your own models and parts, as ["my_package"]. A record is data: a class that it names is
    imported only from latentbench, torch.optim and these. Raises InputError if there is no such run.
    """
    from bench.runs.trained import load_trained  # it imports torch, which takes a second

    return load_trained(Path(run_folder), seed, allow)
