"""Rule `log_signature`: the new release logs errors of a kind never seen before."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rollbackd.fields import Model


class LogSignatureSettings(Model):
    """Worse means: a new error signature was logged at least `lines` times and keeps coming."""

    lines: Annotated[int, Field(ge=1)] = 12
