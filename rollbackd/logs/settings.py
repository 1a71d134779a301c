"""What an operator sets about the lines of a log, whatever source they come from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rollbackd.fields import Model
from rollbackd.logs.formats import Format, LineReader
from rollbackd.logs.rules import MAX_RULES, LineRule, Rules


class LineSettings(Model):
    """How the lines of a log are read."""

    format: Format = "auto"
    """What its lines are; `auto` tells each line for itself."""
    version_field: str | None = None
    """The field of JSON or logfmt lines that names the release, with dots for fields within fields."""
    rules: Annotated[tuple[LineRule, ...], Field(max_length=MAX_RULES)] = ()
    """What to take certain lines for; the first rule that matches a line counts. Needs `rollbackd[re2]`."""

    def reader(self) -> LineReader:
        """What reads lines in this way."""
        return LineReader(self.format, self.version_field, Rules(self.rules) if self.rules else None)
