"""What Hydra reads and composes, kept for the next time: it takes 80 ms to compose one configuration.

It reads some thirty files each time, and composes each job of a sweep twice.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from omegaconf import DictConfig

from bench.paths import CONF

_read, _compose = ConfigRepository.load_config, ConfigLoaderImpl.load_configuration
_files: dict[Any, bytes] = {}
_configurations: dict[Any, bytes] = {}


def _kept(store: dict[Any, bytes], key: Any, make: Callable[[], Any]) -> Any:
    """A copy of what was made for the key. Pickles are copied ten times faster than configurations."""
    if key not in store:
        store[key] = pickle.dumps(make())
    return pickle.loads(store[key])


def _own(places: list[Any]) -> list[tuple[Path, bytes]]:
    """The user's files, which may change during a test."""
    folders = {place.path.removeprefix("file://") for place in places} - {"", CONF}
    own = (Path(folder) for folder in sorted(folders) if Path(folder).is_dir())
    return [(file, file.read_bytes()) for folder in own for file in sorted(folder.rglob("*.yaml"))]


def read(repository: ConfigRepository, config_path: str) -> Any:
    """One file of a configuration."""
    places = repository.get_sources()
    key = (config_path, str(places), *_own(places))
    return _kept(_files, key, lambda: _read(repository, config_path))


def compose(loader: ConfigLoaderImpl, **options: Any) -> DictConfig:
    """A whole configuration. It names the current folder."""
    key = (os.getcwd(), str(options), *_own(loader.config_search_path.get_path()))
    return _kept(_configurations, key, lambda: _compose(loader, **options))
