"""The trials of tuning: points of a Sobol sequence in the space of a model's settings.

Every model gets the same number of trials, each at another point of its own space.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from bench.errors import InputError

MOST = 2**16  # trials
SEED = 0  # of the scrambled sequence
RATES = (0.1, 10.0)  # times its learning rates: the space of a model that has none of its own
FORMS = "{low: 1.0e-4, high: 1.0e-2, log: true}, {low: 1, high: 5, integer: true} or {choices: [a, b]}"


def point(config: DictConfig, number: int, fixed: Collection[str]) -> dict[str, Any]:
    """The settings of a trial, by dotted key, from `tuning.space`.

    fixed: settings that the command line sets, which are not tuned. A model without a space has its learning rates
    tuned, all by the same factor. Raises InputError for a space that is not as in FORMS or names an unknown setting.
    """
    if not isinstance(config.tuning.space, DictConfig):
        raise InputError(f"tuning.space={config.tuning.space}: expected settings and their ranges, such as {FORMS}")
    space: Any = OmegaConf.to_container(config.tuning.space, resolve=True)
    tuned = {
        key: dimension for key, dimension in space.items() if not any(f"{key}.".startswith(f"{f}.") for f in fixed)
    }
    if not space:
        low, high = RATES
        (share,) = sobol(number, 1)
        rates = {key: rate for key, rate in _learning_rates(config).items() if not _is_fixed(key, fixed)}
        return {key: _rounded(rate * low * (high / low) ** share) for key, rate in rates.items()}
    for key in tuned:
        try:
            known = OmegaConf.select(config, str(key), throw_on_missing=False, default=OmegaConf)
        except OmegaConfBaseException:
            known = OmegaConf
        if known is OmegaConf or not str(key).partition(".")[2]:
            raise InputError(f"tuning.space names {key}, which is not a setting: bench --cfg job shows all")
    shares = sobol(number, len(tuned)) if tuned else []
    return {str(key): _value(str(key), tuned[key], share) for key, share in zip(tuned, shares, strict=True)}


def is_trial(trial: object) -> bool:
    """Whether it is best or the number of a trial. Anything else is refused later."""
    return trial == "best" or (type(trial) is int and 0 <= trial < MOST)


def candidates(config: DictConfig, fixed: Collection[str], groups: Collection[str]) -> list[dict[str, Any]]:
    """The trials that a job needs, with the options of their groups: its own, or for trial=best all of them.

    Raises InputError as `point` does, and if trial=best does not know how many there are.
    """
    if config.trial == "best" and not isinstance(config.tuning.trials, int):
        raise InputError("trial=best chooses among trials: say how many there are, as in tuning.trials=16")
    numbers = range(config.tuning.trials) if config.trial == "best" else [config.trial]
    made = []
    for number in numbers:
        settings = point(config, number, fixed)
        values: Any = OmegaConf.to_container(with_settings(config, settings), resolve=True)
        made.append({"settings": settings, "groups": {group: values[group] for group in groups if group in values}})
    return made


def with_settings(config: DictConfig, settings: Mapping[str, Any]) -> DictConfig:
    """A copy with other settings, by dotted key. What refers to them has them too."""
    changed = copy.deepcopy(config)
    with flag_override(changed, ["struct", "readonly"], [False, False]):
        for key, value in settings.items():
            OmegaConf.update(changed, key, value)
    return changed


def _is_fixed(key: str, fixed: Collection[str]) -> bool:
    return any(f"{key}.".startswith(f"{other}.") for other in fixed)


def _learning_rates(config: DictConfig) -> dict[str, float]:
    """The learning rates that refer to no other one."""
    found = {"optimizer.lr": config.optimizer.lr} if config.get("optimizer") else {}
    for player, options in (config.model.get("optimizers") or {}).items():
        if "lr" in options and not OmegaConf.is_interpolation(options, "lr"):
            found[f"model.optimizers.{player}.lr"] = options.lr
    return found


@cache
def _sequence(dimensions: int, log2: int) -> Any:
    from scipy.stats import qmc  # takes half a second, and few commands need it

    return qmc.Sobol(dimensions, scramble=True, seed=SEED).random_base2(log2)


def sobol(number: int, dimensions: int) -> list[float]:
    """A point in [0, 1)^dimensions of a scrambled Sobol sequence (Owen 1998). The first ones fill the cube evenly."""
    return _sequence(dimensions, max(number.bit_length(), 1))[number].tolist()


def _value(key: str, dimension: Any, share: float) -> Any:
    """The value at a share, in [0, 1), of a dimension."""
    wrong = InputError(f"tuning.space.{key}={dimension}: expected {FORMS}")
    if not isinstance(dimension, dict):
        raise wrong
    if dimension.keys() == {"choices"} and isinstance(dimension["choices"], list) and dimension["choices"]:
        return dimension["choices"][int(share * len(dimension["choices"]))]
    low, high, is_log, is_integer = (dimension.get(name, False) for name in ("low", "high", "log", "integer"))
    ends_are = int if is_integer else int | float
    is_known = not dimension.keys() - {"low", "high", "log", "integer"} and {is_log, is_integer} <= {True, False}
    if (
        not is_known
        or not all(_is_number(end, ends_are) for end in (low, high))
        or low >= high
        or (is_log and low <= 0)
    ):
        raise wrong
    high += bool(is_integer)  # it is one of the values
    value = low * (high / low) ** share if is_log else low + (high - low) * share
    return math.floor(value) if is_integer else _rounded(value)


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)


def _rounded(value: float) -> float:
    """Four significant digits, which a table can show."""
    return float(f"{value:.4g}")
