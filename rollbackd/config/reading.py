"""A configuration file's bytes to the configuration, or to all of its faults at once."""

from __future__ import annotations

from collections.abc import Mapping

from rollbackd.config.blocks import BlockReader, Catalog
from rollbackd.config.checks import check
from rollbackd.config.document import Document, parse
from rollbackd.config.faults import ConfigFaults, Fault, Findings, KeyPath, dotted
from rollbackd.config.schema import Config, Defaults, Service
from rollbackd.config.words import found, validate
from rollbackd.fields import AsWritten


def read(raw: bytes, file: str, catalog: Catalog, *, reveal: bool = False) -> Config:
    """The configuration in a file's bytes; an empty file is one, too. `file` is what faults call it.

    `reveal` asks that every secret can be read now. Raises ConfigFaults.
    """
    findings = Findings()
    document = parse(raw, findings)
    config = _config(document, catalog, findings, AsWritten(reveal=reveal))
    if config is None or findings.all:
        raise ConfigFaults(_placed(findings, document, file))
    return config


def _config(document: Document, catalog: Catalog, findings: Findings, context: AsWritten) -> Config | None:
    data = {} if document.data is None else document.data
    if findings.judged(()):
        return None
    if not isinstance(data, Mapping):
        findings.add((), f"expected sections such as `services:`; found {found(data)}", 1)
        return None
    filled = BlockReader(catalog, findings, context).replace_all(data)
    _misplaced(filled, findings)
    known_before = findings.wrong
    config = validate(Config, filled, (), findings, context)
    if config is None:
        # What is wrong is taken out, so that the rest can be checked as a whole and no fault waits for a second run.
        for path in findings.wrong - known_before:
            _take_out(filled, path)
        config = validate(Config, filled, (), Findings(), context)
    if config is not None:
        check(config, catalog, findings, reveal=context.reveal)
    return config


def _misplaced(data: dict[str, object], findings: Findings) -> None:
    """A service's key at the top or among the defaults is the likeliest misunderstanding of all."""
    for key in Service.model_fields.keys() - Config.model_fields.keys() & data.keys():
        place = "a service, or to `defaults`" if key in Defaults.model_fields else "a service under `services`"
        findings.add((key,), f"not a key of the whole file: it belongs to {place}")
        _take_out(data, (key,))
    defaults = data.get("defaults")
    if isinstance(defaults, Mapping):
        for key in Service.model_fields.keys() - Defaults.model_fields.keys() & defaults.keys():
            findings.add(("defaults", key), "belongs to each service by itself: no two services share it")
            _take_out(data, ("defaults", key))


def _take_out(data: dict[str, object], path: KeyPath) -> None:
    """Remove the value at `path`, or what should have held it; of a list, the whole list."""
    here: object = data
    place: tuple[dict[str, object], str] | None = None
    for step in path:
        if not isinstance(here, dict) or step not in here:
            break
        place = (here, str(step))
        here = here[step]
    if place is not None:
        del place[0][place[1]]


def _placed(findings: Findings, document: Document, file: str) -> list[Fault]:
    faults = []
    for finding in findings.all:
        line = document.line(finding.path) if finding.line is None else finding.line
        faults.append(Fault(file=file, line=line, where=dotted(finding.path), message=finding.message))
    return sorted(faults, key=lambda fault: fault.line)
