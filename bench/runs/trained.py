"""The trained model of a finished run, for use from Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bench.core import InputError, Model
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.runs import store
from bench.runs.config import build
from bench.runs.files import checksum_of


class _Conditions(dict[str, Tensor]):
    """Conditions by name. To read one that was not passed is an InputError; a decoder may do without them."""

    def __init__(self, passed: Mapping[str, Tensor], expected: Iterable[str]):
        super().__init__(passed)
        self._expected = set(expected)

    def check_complete(self) -> None:
        if missing := self._expected - self.keys():
            raise InputError(f"this model was trained with conditions: pass {', '.join(sorted(missing))}")

    def __missing__(self, name: str) -> Tensor:
        self.check_complete()
        raise KeyError(name)


@dataclass(frozen=True)
class Trained:
    """model: in evaluation mode; record: the content of its record.json."""

    model: Model
    record: dict[str, Any]

    @torch.no_grad()
    def encode(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Codes [N, latent_dim] of images [N, C, H, W] in [0, 1]: the posterior's mean. label: [N], if conditional."""
        return self.model.encode(Batch(x, x, self._checked(label))).mean

    @torch.no_grad()
    def decode(self, z: Tensor, label: Tensor | None = None, **conditions: Tensor) -> Tensor:
        """Mean images [N, C, H, W] of codes [N, latent_dim].

        label: [N], if conditional; conditions: [N, ...] by name, if the decoder reads them.
        """
        blank = z.new_zeros(len(z), *self.record["data"]["image"])
        return self.model.decode(z, Batch(blank, blank, self._checked(label), self._given(conditions))).mean

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0, label: Tensor | None = None, **conditions: Tensor) -> Tensor:
        """Mean images [n, C, H, W] of codes drawn from the prior.

        label: [n], if conditional; conditions: [n, ...] by name, if the decoder reads them.
        """
        weights = next(iter(self.model.state_dict().values()))
        draws = Draws(seed, "sample", device=weights.device)
        if type(self.model).sample is not Model.sample:
            return self.model.sample(n, draws, self._checked(label))
        return self.decode(self.model.prior_codes(n, draws, self._checked(label)), label, **conditions)

    @torch.no_grad()
    def translate(self, input: Tensor, seed: int = 0, label: Tensor | None = None, **conditions: Tensor) -> Tensor:
        """The model's outputs [N, C, H, W] for inputs [N, C, H, W] and conditions [N, ...], by name."""
        given = self._given(conditions)
        given.check_complete()
        blank = input.new_zeros(len(input), *self.record["data"]["image"])
        batch = Batch(blank, input, self._checked(label), given)
        return self.model.translate(batch, Draws(seed, "translate", device=input.device))

    def _given(self, conditions: dict[str, Tensor]) -> _Conditions:
        return _Conditions(conditions, self.record["data"].get("conditions", {}))

    def _checked(self, label: Tensor | None) -> Tensor | None:
        if self.model.conditional and self.record["data"]["classes"] and label is None:
            raise InputError("this model is conditional: pass label=, the class of each image")
        return label


def _shapes(data: dict[str, Any]) -> Shapes:
    conditions = {name: tuple(shape) for name, shape in data.get("conditions", {}).items()}
    source = data.get("source")
    return Shapes(tuple(data["image"]), data["classes"], source and tuple(source), conditions)


def load_trained(run_folder: Path, seed: int, allow: Sequence[str] = ()) -> Trained:
    """Raises InputError if the run, the seed or its weights are missing, or if its code is not allowed."""
    record = store.read(store.seed_folder(run_folder, seed))
    if record["status"] != "ok":
        raise InputError(f"{record['folder']} is not a finished run: it is {record['status']} ({record['reason']})")
    return Trained(restored(record, allow), record)


def restored(record: dict[str, Any], allow: Sequence[str] = ()) -> Model:
    """The model of a record with its saved weights, on the CPU. allow: as for `bench.load`. Raises InputError."""
    weights = record["folder"] / store.WEIGHTS
    if not weights.is_file():
        raise InputError(f"{weights} does not exist: train the run again with rerun=true")
    model = build(record["config"], _shapes(record["data"]), record["seed"], allow)
    if record.get("weights") not in (None, checksum_of(weights)):
        raise InputError(
            f"{weights} is damaged: its checksum is not the one in its record; train the run again with rerun=true"
        )
    try:
        model.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{weights} is damaged or does not fit the model of this version: train the run again with rerun=true"
        ) from error
    return model.eval()
