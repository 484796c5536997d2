"""The trained model of a finished run, for use from Python."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bench.core import InputError, Model
from bench.data import Batch, Shapes, as_floats
from bench.datasets.ranges import BYTES
from bench.draws import Draws
from bench.runs import arrays, store
from bench.runs.arrays import Form
from bench.runs.config import build
from bench.runs.files import checksum_of
from bench.runs.record import RESULTS


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
    """A trained model, for arrays and tensors. model: in evaluation mode; record: the content of its record.json.

    Images, codes, labels and conditions are those of N examples, or of one without the first axis. Answers have the
    form of what was given: NumPy arrays for arrays, tensors for tensors, and no first axis for a single example. Wrong
    shapes and values raise InputError.

    Images are floats in [0, 1], from black to white, or integers as the data of the run are stored, for most data uint8
    from 0 to 255: those are converted as in training, by data.range of the record.
    """

    model: Model
    record: dict[str, Any]

    @torch.no_grad()
    def encode(self, x: Any, label: Any = None) -> Any:
        """Codes [N, latent_dim] of images [N, C, H, W]: the posterior's mean. label: [N], if conditional."""
        images, form = self._images("x", x)
        return form.of(self.model.encode(Batch(images, images, self._label(label, len(images)))).mean)

    @torch.no_grad()
    def decode(self, z: Any, label: Any = None, **conditions: Any) -> Any:
        """Mean images [N, C, H, W] of codes [N, latent_dim].

        label: [N], if conditional; conditions: [N, ...] by name, if the decoder reads them.
        """
        codes, form = arrays.form("z", z, (self.model.latent_dim,))
        codes = codes.to(self._device, torch.get_default_dtype())
        return form.of(self._decoded(codes, label, conditions))

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0, label: Any = None, **conditions: Any) -> Tensor:
        """Mean images [n, C, H, W] of codes drawn from the prior, always a tensor.

        label: [n], if conditional; conditions: [n, ...] by name, if the decoder reads them.
        """
        draws = Draws(seed, "sample", device=self._device)
        given = self._label(label, n)
        if type(self.model).sample is not Model.sample:
            return self.model.sample(n, draws, given)
        return self._decoded(self.model.prior_codes(n, draws, given), label, conditions)

    @torch.no_grad()
    def translate(self, input: Any, seed: int = 0, label: Any = None, **conditions: Any) -> Any:
        """The model's outputs [N, C, H, W] for inputs [N, C, H, W] and conditions [N, ...], by name."""
        sources, form = self._images("input", input)
        given = self._given(conditions, len(sources))
        given.check_complete()
        blank = sources.new_zeros(len(sources), *self.record["data"]["image"])
        batch = Batch(blank, sources, self._label(label, len(sources)), given)
        return form.of(self.model.translate(batch, Draws(seed, "translate", device=self._device)))

    @property
    def _device(self) -> torch.device:
        return next((weights.device for weights in self.model.state_dict().values()), torch.device("cpu"))

    def _images(self, name: str, x: Any) -> tuple[Tensor, Form]:
        data = self.record["data"]
        given, form = arrays.form(name, x, data.get("source") or data["image"])
        return arrays.images(name, given, tuple(data.get("range") or BYTES)).to(self._device), form

    def _decoded(self, codes: Tensor, label: Any, conditions: dict[str, Any]) -> Tensor:
        blank = codes.new_zeros(len(codes), *self.record["data"]["image"])
        batch = Batch(blank, blank, self._label(label, len(codes)), self._given(conditions, len(codes)))
        return self.model.decode(codes, batch).mean

    def _given(self, conditions: dict[str, Any], count: int) -> _Conditions:
        shapes = self.record["data"].get("conditions", {})
        if unknown := sorted(conditions.keys() - shapes.keys()):
            raise InputError(
                f"{unknown[0]} is not a condition of this model: it has {', '.join(sorted(shapes)) or 'none'}"
            )
        found = {}
        for name, value in conditions.items():
            given, _ = arrays.form(name, value, shapes[name])
            if len(given) != count:
                raise InputError(f"{name} has {len(given)} examples: expected {count}")
            floats = as_floats(given)
            found[name] = (floats.to(torch.get_default_dtype()) if floats.is_floating_point() else floats).to(
                self._device
            )
        return _Conditions(found, shapes)

    def _label(self, label: Any, count: int) -> Tensor | None:
        classes = self.record["data"]["classes"]
        if label is None:
            if self.model.conditional and classes:
                raise InputError("this model is conditional: pass label=, the class of each image")
            return None
        return arrays.labels(label, count, classes).to(self._device)


def _shapes(data: dict[str, Any]) -> Shapes:
    conditions = {name: tuple(shape) for name, shape in data.get("conditions", {}).items()}
    source = data.get("source")
    return Shapes(tuple(data["image"]), data["classes"], source and tuple(source), conditions)


def load_trained(folder: Path, seed: int | None = None, allow: Sequence[str] = ()) -> Trained:
    """See `bench.load`. Raises InputError if run, seed or weights are missing, or if its code is not allowed."""
    record = store.read(_seed_folder(folder.expanduser(), seed))
    if record["status"] != "ok":
        advice = "it has no model to load" if record["status"] in RESULTS else "the same command tries again"
        raise InputError(
            f"{record['folder']} is not a finished run: it is {record['status']} ({record['reason']}); {advice}"
        )
    _check_importable(record, allow)
    return Trained(restored(record, allow), record)


def _seed_folder(folder: Path, seed: int | None) -> Path:
    """The folder of one seed with a record. Raises InputError that names what to give instead."""
    if not folder.is_dir():
        raise InputError(
            f"{folder} does not exist: give the folder of a run, such as "
            "results/first/vae-bernoulli-mnist-none-0123456789, or of one of its seeds"
        )
    if re.fullmatch(r"seed-\d+", folder.resolve().name):
        number = int(folder.resolve().name[5:])
        if seed not in (None, number):
            raise InputError(
                f"{folder} is the folder of seed {number}, and seed={seed} is another one: leave out seed=, or give "
                f"the folder of the run"
            )
        if not (folder / store.RECORD).is_file():
            raise InputError(f"{folder} has no record yet: the same command as before finishes the run")
        return folder
    seeds = sorted(int(path.parent.name[5:]) for path in folder.glob(f"seed-*/{store.RECORD}"))
    if seeds and (seed is None or seed in seeds):
        return store.seed_folder(folder, seeds[0] if seed is None else seed)
    if seeds:
        raise InputError(f"{folder} has no seed {seed}: it has {', '.join(map(str, seeds))}")
    if runs := sorted({path.parents[1].name for path in folder.glob(f"[!.]*/seed-*/{store.RECORD}")}):
        few = ", ".join(runs[:3]) + (f" and {len(runs) - 3} more" if len(runs) > 3 else "")
        raise InputError(f"{folder} is the folder of a sweep: give the folder of one of its runs, {few}")
    if (folder / store.RECORDS).is_file():
        raise InputError(f"{folder} has only records, without weights: run the sweep here to have its models")
    raise InputError(f"{folder} holds no finished run: give the folder of a run, or of one of its seeds")


def _check_importable(record: Mapping[str, Any], allow: Sequence[str]) -> None:
    """Raises InputError where Python does not find an allowed package of the user's.

    The message says where it was in training. It is not imported from there unasked: whoever wrote the record would
    then choose the code that runs under an allowed name.
    """
    for package, folder in record["code"].get("own", {}).items():
        is_allowed = any(name.partition(".")[0] == package for name in allow)
        if is_allowed and package.isidentifier() and importlib.util.find_spec(package) is None:
            raise InputError(
                f"{package}, the code of this run, is not on Python's path: if you trust it, add the folder where it "
                f"was in training, sys.path.append({folder!r}), or another one that holds it"
            )


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
