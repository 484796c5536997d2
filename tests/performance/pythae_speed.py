"""Training speed of a VAE, here, in Pythae (Chadebec et al. 2022) and in a loop written by hand, side by side.

All train the same net (784-512-16, ReLU, Bernoulli, batch 128, Adam 1e-3) on as many images of MNIST and as many
threads, each run in a process of its own, the three in turns. The loop by hand is what the arithmetic itself takes.
Pythae lives in an environment of its own:

    python3 -m venv pythae-venv && pythae-venv/bin/pip install torch==2.13.0 pythae==0.1.2
    BENCH_DATA=/path/to/data python tests/performance/pythae_speed.py --pythae-python pythae-venv/bin/python

Only training is timed: no import, no reading of data, no evaluation.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from tabulate import tabulate

TRAIN_IMAGES = 55_000  # what latentbench leaves of MNIST's 60,000 once 5,000 are taken for validation

# What a user of Pythae writes, with a clock in its callbacks. Its MLPs have one hidden layer of 512 by default.
PYTHAE = """
import json, sys, time

import numpy as np
from pythae.models import VAE, VAEConfig
from pythae.pipelines import TrainingPipeline
from pythae.trainers import BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback

images, epochs, folder = np.load(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


class Clock(TrainingCallback):
    seconds = 0.0

    def on_epoch_begin(self, training_config, **kwargs):
        self.start = time.perf_counter()

    def on_epoch_end(self, training_config, **kwargs):
        self.seconds += time.perf_counter() - self.start


clock = Clock()
model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=16, reconstruction_loss="bce"))
config = BaseTrainerConfig(
    output_dir=folder, num_epochs=epochs, per_device_train_batch_size=128, learning_rate=1e-3, no_cuda=True
)
TrainingPipeline(model=model, training_config=config)(train_data=images, callbacks=[clock])
parameters = sum(p.numel() for p in model.parameters())
print(json.dumps({"speed": epochs * len(images) / clock.seconds, "parameters": parameters}))
"""

# The same arithmetic and nothing else: no seeds, no names, no log.
BY_HAND = """
import json, sys, time

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

images, epochs = torch.from_numpy(np.load(sys.argv[1])).flatten(1).mul(255).byte(), int(sys.argv[2])
encoder = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 32))
decoder = nn.Sequential(nn.Linear(16, 512), nn.ReLU(), nn.Linear(512, 784))
parameters = [*encoder.parameters(), *decoder.parameters()]
adam = torch.optim.Adam(parameters, lr=1e-3, fused=True)
start = time.perf_counter()
for _ in range(epochs):
    for rows in torch.randperm(len(images)).split(128):
        x = images[rows].float() / 255
        mean, log_variance = encoder(x).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        reconstruction = cross_entropy(decoder(z), x, reduction="none").sum(1).mean()
        kl = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(1).mean()
        adam.zero_grad()
        (reconstruction + kl).backward()
        adam.step()
seconds = time.perf_counter() - start
print(json.dumps({"speed": epochs * len(images) / seconds, "parameters": sum(p.numel() for p in parameters)}))
"""


class Run(NamedTuple):
    """speed: images a second of training; parameters: how many numbers were trained."""

    speed: float
    parameters: int


def run(command: list[str], threads: int) -> str:
    """What a command prints on this many threads; one that fails shows its errors and ends the script."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def latentbench(epochs: int, threads: int, folder: Path) -> Run:
    command = [sys.executable, "-m", "bench", "model=vae", "likelihood=bernoulli", "dataset=mnist", "noise=none"]
    command += ["network=mlp", "network.hidden=512", "network.depth=1", "network.activation=relu", "network.norm=none"]
    command += ["model.latent_dim=16", "optimizer.lr=1e-3", "budget.batch_size=128", f"budget.epochs={epochs}"]
    command += ["metrics=fast", "tracking=none", "device=cpu", f"paths.results={folder}"]
    run(command, threads)
    (path,) = folder.glob("default/*/seed-0/record.json")
    record = json.loads(path.read_text())
    return Run(record["samples_per_second"], record["parameters"]["total"])


def script(python: str, text: str, images: Path, epochs: int, threads: int, folder: Path) -> Run:
    printed = run([python, "-c", text, str(images), str(epochs), str(folder)], threads)
    return Run(**json.loads(printed.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pythae-python", required=True, help="the interpreter of an environment that holds Pythae")
    parser.add_argument("--epochs", type=int, default=2, help="epochs a run (default 2)")
    parser.add_argument("--repetitions", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each (default 1)")
    options = parser.parse_args()
    if "BENCH_DATA" not in os.environ:
        parser.error("set BENCH_DATA to the folder that holds mnist/train-images-idx3-ubyte.gz")

    idx = gzip.decompress((Path(os.environ["BENCH_DATA"]) / "mnist/train-images-idx3-ubyte.gz").read_bytes())
    pixels = np.frombuffer(idx, np.uint8, offset=16).reshape(-1, 1, 28, 28)[:TRAIN_IMAGES]

    turns: list[tuple[Run, Run, Run]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "images.npy", pixels.astype(np.float32) / 255)
        for turn in range(options.repetitions):
            common = (folder / "images.npy", options.epochs, options.threads, folder / f"pythae-{turn}")
            ours = latentbench(options.epochs, options.threads, folder / f"latentbench-{turn}")
            theirs = script(options.pythae_python, PYTHAE, *common)
            turns.append((ours, theirs, script(sys.executable, BY_HAND, *common)))

    if len(sizes := {run.parameters for turn in turns for run in turn}) > 1:
        sys.exit(f"the nets differ, so their speeds cannot be compared: {sorted(sizes)} parameters")
    speeds = {str(i): [run.speed for run in turn] for i, turn in enumerate(turns, 1)}
    speeds["median"] = [median(column) for column in zip(*speeds.values(), strict=True)]
    table = [(name, ours, theirs, hand, ours / theirs, ours / hand) for name, (ours, theirs, hand) in speeds.items()]
    headers = ["samples/s", "latentbench", "Pythae", "by hand", "latentbench / Pythae", "latentbench / by hand"]
    print(tabulate(table, headers=headers, floatfmt=("", ".0f", ".0f", ".0f", ".2f", ".2f")))
    print(f"{options.epochs} epochs of {TRAIN_IMAGES:,} images, {options.threads} thread(s)")


if __name__ == "__main__":
    main()
