"""Sweeps on disk, as `bench` leaves them, with numbers that a test chooses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BETTER = {
    "elbo": ("higher", None),
    "kl": (None, None),
    "reconstruction_mse": ("lower", 0.0),
    "knn_accuracy": ("higher", 1.0),
    "sharpness_samples": ("closest", 1.0),
    "denoising_gain_db": ("higher", None),
    "mmd_to_prior": ("lower", 0.0),
}


class Results:
    """Writes records; what a call does not say is that of a finished VAE on the digits."""

    KEY = {
        "dataset": "digits",
        "binarize": "none",
        "dequantize": False,
        "measure": "unnormalised",
        "conditional": False,
    }

    def __init__(self, path: Path):
        self.path = path
        self.started = 0

    def run(self, name: str, seed: int = 0, sweep: str = "first", metrics: dict[str, Any] | None = None, **given: Any):
        """metrics: {name: value, or the reason of n/a}; choices and settings are merged into the usual ones."""
        choices = {"model": name, "likelihood": "bernoulli", "dataset": "digits", "noise": "none", "prior": "normal"}
        choices |= {"adversarial": None, "network": "mlp", "optimizer": "adam", "budget": "default"}
        choices |= given.pop("choices", {})
        config: dict[str, Any] = {group: None if choice is None else {} for group, choice in choices.items()}
        config["model"] = {"_target_": f"bench.models.{name}", "latent_dim": 2}
        if config["budget"] is not None:
            config["budget"] = {"epochs": 20, "steps": None, "batch_size": 128}
        for key, value in given.pop("settings", {}).items():
            group, _, setting = key.partition(".")
            config[group] = config[group] | {setting: value}
        id_ = hashlib.blake2b(json.dumps([choices, config]).encode(), digest_size=5).hexdigest()
        self.started += 1
        record = {
            "schema": 2,
            "id": id_,
            "name": "-".join(str(choices[c]) for c in ("model", "likelihood", "dataset", "noise") if choices[c]),
            "sweep": sweep,
            "seed": seed,
            "status": "ok",
            "reason": None,
            "traceback": None,
            "choices": choices,
            "config": config,
            "data": {
                "fingerprint": f"print-of-{choices['dataset']}",
                "train": 1294,
                "validation": 143,
                "test": 360,
                "image": [1, 8, 8],
                "classes": 10,
            },
            "likelihood_key": self.KEY | {"dataset": choices["dataset"]} if choices["likelihood"] else None,
            "code": {},
            "libraries": {},
            "hardware": {"device": "cpu", "threads": 2},
            "seeds_stacked": [seed],
            "steps": 220,
            "seconds": 1.2,
            "samples_per_second": 20000.0,
            "parameters": {"model": 123456, "total": 123456},
            "metrics": {},
            "warnings": [],
            "started": f"2026-01-01T00:{self.started // 60:02}:{self.started % 60:02}+00:00",
            "finished": "2026-01-01T01:00:00+00:00",
        } | given
        for metric, value in (metrics or {}).items():
            better, ideal = BETTER.get(metric, (None, None))
            told = {"value": None, "reason": value} if isinstance(value, str) else {"value": value, "reason": None}
            record["metrics"][metric] = {"better": better, "ideal": ideal, "se": None, "n": 360, "floor": None} | told
        folder = self.path / sweep / f"{record['name']}-{id_}" / f"seed-{seed}"
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(record))
        return folder

    def pictures(self, folder: Path, latents: int = 2, seed: int = 0) -> None:
        """images.npz and history.csv of a run."""
        draw = np.random.default_rng(seed)
        images = {
            name: draw.integers(0, 255, (n, 1, 8, 8), dtype=np.uint8)
            for name, n in {"corrupted": 16, "reconstruction": 16, "denoised": 16, "samples": 64}.items()
        }
        images["input"] = np.random.default_rng(0).integers(0, 255, (16, 1, 8, 8), dtype=np.uint8)
        images["codes"] = draw.normal(size=(50, latents)).astype(np.float32)
        images["labels"] = np.arange(50) % 10
        images["manifold"] = draw.integers(0, 255, (5, 5, 1, 8, 8), dtype=np.uint8)
        np.savez(folder / "images.npz", **images)
        lines = [f"{step},{step // 10},0.1,{np.exp(-step / 50) + draw.normal() / 20},{0.5}" for step in range(100)]
        (folder / "history.csv").write_text("step,epoch,seconds,loss/model,loss/critic\n" + "\n".join(lines) + "\n")


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")
