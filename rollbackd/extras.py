"""Modules of ours that need a package which not everybody installs: an extra, as in `pip install rollbackd[NAME]`."""

from __future__ import annotations

import importlib
from types import ModuleType

from rollbackd.errors import ConfigError


def missing(wanted_by: str, extra: str, error: ImportError) -> ConfigError:
    """What to tell an operator whose configuration wants it."""
    return ConfigError(f"{wanted_by} needs a package that is not installed ({error.name}): install rollbackd[{extra}]")


def load(module: str, wanted_by: str, extra: str) -> ModuleType:
    """Import a module of ours. Raises ConfigError where a package of that extra is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing(wanted_by, extra, error) from error
