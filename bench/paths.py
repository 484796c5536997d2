"""Where the program's own files lie."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED, _CHECKOUT = _PACKAGE / "conf", _PACKAGE.parent / "conf"

# Hydra's configuration folder. Absolute, because "../conf" is found from a checkout only, and pkg:// from a wheel only.
CONF: str = str(_INSTALLED if _INSTALLED.is_dir() else _CHECKOUT)
