"""What operators write in a configuration: durations, ratios, sizes and secrets, as pydantic field types."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from rollbackd.errors import ConfigError

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def _duration(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("a duration carries its unit: write 30s, 5m or 1h30m")
    parts = _DURATION.findall(value.replace(" ", ""))
    if not parts or "".join(number + unit for number, unit in parts) != value.replace(" ", ""):
        raise ValueError(f"`{value}` is no duration: write 30s, 5m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _ratio(value: object) -> object:
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip()[:-1]) / 100
        except ValueError:
            raise ValueError(f"`{value}` is no ratio: write 1% or 0.01") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"`{value}` is no ratio: write 1% or 0.01")
    return value


def _size(value: object) -> object:
    if isinstance(value, str):
        found = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", value.strip())
        if found is None or found[2] not in _BYTES:
            raise ValueError(f"`{value}` is no size: write 64MiB, 10MB or a number of bytes")
        return int(found[1]) * _BYTES[found[2]]
    return value


Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(_duration),
    Field(ge=0),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d)\s*)+$", "examples": ["30s", "1h30m"]}),
]
"""Seconds, written with units: `30s`, `5m`, `1h30m`."""

Ratio: TypeAlias = Annotated[
    float,
    BeforeValidator(_ratio),
    Field(ge=0, le=1),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string", "pattern": "%$"}]}),
]
"""A share of one, written `1%` or `0.01`."""

Size: TypeAlias = Annotated[
    int,
    BeforeValidator(_size),
    Field(ge=0),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "examples": ["64MiB"]}]}),
]
"""Bytes, written `64MiB`, `10MB` or as a number."""


class Model(BaseModel):
    """Base of everything an operator writes: unknown keys are errors, values do not change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Secret(Model):
    """A credential, written as where it is kept: `{env: NAME}` or `{file: PATH}`. Never the value itself.

    The value is read each time it is needed, so a rotated file takes effect without a reload.
    """

    env: str | None = None
    file: Path | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Secret:
        if (self.env is None) == (self.file is None):
            raise ValueError("a secret names one place: {env: NAME} or {file: PATH}")
        return self

    def reveal(self) -> str:
        """The value, without surrounding white space. Raises ConfigError where it is missing or empty."""
        if self.env is not None:
            value = os.environ.get(self.env, "")
            place = f"environment variable {self.env}"
        else:
            assert self.file is not None  # noqa: S101  the validator saw to it
            place = f"file {self.file}"
            try:
                value = self.file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"secret: cannot read {place}: {error.__class__.__name__}") from None
        if not value.strip():
            raise ConfigError(f"secret: {place} is empty or not set")
        return value.strip()
