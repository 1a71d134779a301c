"""What operators write in a configuration: durations, ratios, sizes, switches and secrets, as pydantic field types."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from rollbackd.errors import ConfigError

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,18})\s*([A-Za-z]*)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class AsWritten:
    """Validation context for what an operator wrote, which is read more strictly than what code passes.

    A number is then no duration (30 of what?), and nothing is no switch. `reveal` asks that every secret can be read.
    """

    reveal: bool = False


def _written(info: ValidationInfo) -> AsWritten | None:
    return info.context if isinstance(info.context, AsWritten) else None


def _duration(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str):
        text = value.replace(" ", "")
        parts = _DURATION.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(f"`{value}` is no duration: write 30s, 5m or 1h30m")
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and (value == 0 or _written(info) is None):
        return value
    raise ValueError("a duration carries its unit: write 30s, 5m or 1h30m")


def _ratio(value: object) -> object:
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip()[:-1]) / 100
        except ValueError:
            raise ValueError(f"`{value}` is no ratio: write 1% or 0.01") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a ratio is a share of one: write 1% or 0.01")
    return value


def _size(value: object) -> object:
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip())
        if found is None or found[2] not in _BYTES:
            raise ValueError(f"`{value}` is no size: write 64MiB, 10MB or a number of bytes")
        return int(found[1]) * _BYTES[found[2]]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a size is a whole number of bytes: write 64MiB, 10MB or 65536")
    return value


def _moment(value: object) -> object:
    if not isinstance(value, str | date):
        raise ValueError("write a moment with its UTC offset, as in 2026-12-24T00:00:00Z")
    return value


Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(_duration),
    Field(ge=0, allow_inf_nan=False),
    WithJsonSchema(
        {
            "x-kind": "duration",
            "anyOf": [{"type": "string", "pattern": r"^\s*([0-9]+(\.[0-9]+)?(ms|s|m|h|d)\s*)+$"}, {"const": 0}],
        }
    ),
]
"""Seconds, written with units: `30s`, `5m`, `1h30m`. Code may pass a number of seconds; an operator may not."""

Ratio: TypeAlias = Annotated[
    float,
    BeforeValidator(_ratio),
    Field(ge=0, le=1, allow_inf_nan=False),
    WithJsonSchema(
        {
            "x-kind": "ratio",
            "anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string", "pattern": r"%\s*$"}],
        }
    ),
]
"""A share of one, written `1%` or `0.01`."""

Size: TypeAlias = Annotated[
    int,
    BeforeValidator(_size),
    Field(ge=0),
    WithJsonSchema(
        {
            "x-kind": "size",
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": r"^\s*[0-9]{1,18}\s*([KMG]?B|[KMG]iB)?\s*$"},
            ],
        }
    ),
]
"""Bytes, written `64MiB`, `10MB` or as a number."""

Moment: TypeAlias = Annotated[AwareDatetime, BeforeValidator(_moment)]
"""A moment with its UTC offset, written `2026-12-24T00:00:00Z`."""


def duration_text(seconds: float) -> str:
    """The shortest way to write a duration, as in `1h30m`; reading it gives the same seconds (to a millisecond)."""
    left = round(seconds * 1000)
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, left = divmod(left, round(_SECONDS[unit] * 1000))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def ratio_text(share: float) -> str:
    """A share of one as a percentage, as in `0.1%`."""
    return f"{share * 100:.10g}%"


def size_text(count: int) -> str:
    """Bytes in the largest binary unit that divides them, as in `64MiB`."""
    for unit in ("GiB", "MiB", "KiB"):
        if count and count % _BYTES[unit] == 0:
            return f"{count // _BYTES[unit]}{unit}"
    return str(count)


class Switch:
    """Marks an optional model as something to switch: `off` is None, `on` is all its defaults."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_before_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        choices = handler(schema).get("anyOf", [])
        return {"anyOf": [*(one for one in choices if one != {"type": "null"}), {"type": "boolean"}]}

    @staticmethod
    def _read(value: object, info: ValidationInfo) -> object:
        """YAML reads a bare `off` as false, a quoted one as text, and nothing at all as null."""
        if value is None and _written(info) is not None:
            raise ValueError("nothing is written here: write `off`, `on` or settings, or leave the key out")
        if value is False or value == "off":
            return None
        return {} if value is True or value == "on" else value


class Model(BaseModel):
    """Base of everything an operator writes: unknown keys are errors, values do not change afterwards."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        str_strip_whitespace=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


def _names_one_place(schema: dict[str, Any]) -> None:
    schema.update({"x-kind": "secret", "minProperties": 1, "maxProperties": 1})
    for field in schema["properties"].values():
        field.pop("default", None)
        field.pop("anyOf", None)
        field["type"] = "string"


class Secret(Model):
    """A credential, written as where it is kept: `{env: NAME}` or `{file: PATH}`. Never the value itself.

    The value is read each time it is needed, so a rotated file takes effect without a reload.
    """

    model_config = ConfigDict(json_schema_extra=_names_one_place)

    env: str | None = None
    """The environment variable that holds it."""
    file: Path | None = None
    """The file that holds it; white space around it is left out."""

    @model_validator(mode="after")
    def _one_place(self, info: ValidationInfo) -> Secret:
        if (self.env is None) == (self.file is None):
            raise ValueError("a secret names one place: {env: NAME} or {file: PATH}")
        if self.env is not None and not _VARIABLE.fullmatch(self.env):
            raise ValueError("`env` wants the name of an environment variable (letters, digits, _), not a value")
        written = _written(info)
        if written is not None and written.reveal:
            try:
                self.reveal()
            except ConfigError as error:
                raise ValueError(str(error)) from None
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
            except (OSError, UnicodeDecodeError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
                raise ConfigError(f"secret: cannot read {place}: {reason}") from None
        if not value.strip():
            raise ConfigError(f"secret: {place} is empty or not set")
        return value.strip()
