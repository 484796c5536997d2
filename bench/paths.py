"""Paths of the program's own files."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED, _CHECKOUT = _PACKAGE / "conf", _PACKAGE.parent / "conf"

# Hydra's configuration folder. Absolute, because "../conf" works only in a checkout, and pkg:// only in a wheel.
CONF: str = str(_INSTALLED if _INSTALLED.is_dir() else _CHECKOUT)
