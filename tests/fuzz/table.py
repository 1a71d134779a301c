"""Every parser of foreign bytes. To add one, add it to the table of its kind; an intake is there by itself."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fuzz import answers, engines, followed, intakes, logs, metrics
from tests.fuzz.parser import Parser

PARSERS: Mapping[str, Parser] = {
    parser.name: parser
    for parser in (
        *metrics.PARSERS,
        *logs.PARSERS,
        *followed.PARSERS,
        *answers.PARSERS,
        *engines.PARSERS,
        *intakes.PARSERS,
    )
}
