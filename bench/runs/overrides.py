"""The overrides of a command line, and which of them have no effect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bench.core import InputError


@dataclass
class Effects:
    """What has no effect, or only a partial one, on a job, each with the reason.

    groups: those that the model does not use; unused: settings without effect, such as network.dropout; unneeded: the
    same of metrics and tracking, which are not part of a run's identity; partial: settings of the optimizer that do not
    reach every player.
    """

    groups: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    unneeded: dict[str, str] = field(default_factory=dict)
    partial: dict[str, str] = field(default_factory=dict)


class Overrides:
    """The overrides of a command line, as Hydra lists them: ["model=vae", "+optimizer.eps=1e-3"]."""

    def __init__(self, words: Iterable[str]):
        pairs = [word.lstrip("+~").partition("=") for word in words]
        self.values = {key.partition("@")[0]: value for key, _, value in pairs}

    def of(self, setting: str) -> str | None:
        """The override of a setting, or of a dictionary that holds it, as text; None if there is none."""
        keys = (key for key in self.values if "." in key and f"{setting}.".startswith(f"{key}."))
        return next((f"{key}={self.values[key]}" for key in keys), None)

    def within(self, group: str) -> list[str]:
        """The overrides of the settings of a group."""
        return [f"{key}={value}" for key, value in self.values.items() if key.startswith(f"{group}.")]


def ignored(words: Sequence[str], effects: Effects, in_sweep: bool) -> list[str]:
    """A line for each override without effect.

    In a single run, raises InputError for a setting without effect. In a sweep it may have an effect on other jobs.
    Choosing an option of a group that the model does not use is never an error. In a sweep it gives no line either,
    because the table shows "-" there.
    """
    overrides = Overrides(words)

    def overridden(settings: dict[str, str]) -> list[str]:
        found = ((overrides.of(setting), reason) for setting, reason in settings.items())
        return [f"{override} has no effect: {reason}" for override, reason in found if override]

    lines = overridden(effects.unused)
    if lines and not in_sweep:
        raise InputError(f"{lines[0]}. Leave it out, or change what it depends on")
    for group, reason in effects.groups.items():
        choice = [f"{group}={overrides.values[group]}"] if group in overrides.values and not in_sweep else []
        lines += [f"{override} has no effect: {reason}" for override in choice + overrides.within(group)]
    return lines + overridden(effects.unneeded)


def partial(words: Sequence[str], effects: Effects) -> list[str]:
    """A line for each override of the optimizer, or of its settings, that does not reach every player."""
    overrides, lines = Overrides(words), []
    for setting, reason in effects.partial.items():
        group = setting.partition(".")[0]
        choice = f"{group}={overrides.values[group]}" if group in overrides.values else None
        if override := overrides.of(setting) or choice:
            lines.append(f"{override}: {reason}")
    return lines
