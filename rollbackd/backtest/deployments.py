"""Which deployments there were: from the ledger beside a running daemon, or from a CSV file."""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from rollbackd.config.faults import ConfigFaults, Fault
from rollbackd.ledger.base import Ledger

NEEDED = ("service", "version", "deployed_at")
COLUMNS = (*NEEDED, "previous")
MAX_COLUMNS = 50
MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_DEPLOYMENTS = 20_000
"""How many of the newest deployments are read from a ledger."""
LONGEST = {"service": 500, "version": 500, "previous": 500}
MILLISECONDS = 1e11
"""A moment beyond this, the year 5138, is not meant in seconds."""
FUTURE_S = 60.0
"""How far ahead of ours the clock of whoever wrote the file may be."""


class Deployment(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A release that was put in place of another, at a moment in Unix seconds."""

    deployed_at: float
    service: str
    version: str
    previous: str | None = None


async def from_ledger(ledger: Ledger) -> list[Deployment]:
    """The deployments of a ledger, oldest first; one that failed put nothing in place. Raises as the ledger does."""
    await ledger.open_to_read()
    try:
        stored = await ledger.deployments(limit=MAX_DEPLOYMENTS)
    finally:
        await ledger.close()
    return sorted(
        Deployment(deployed_at=one.deployed_at, service=one.service, version=one.version, previous=one.previous)
        for one in stored
        if one.state != "failed"
    )


def from_csv(path: Path, now: float) -> list[Deployment]:
    """The deployments of a CSV file, oldest first; `previous` left out is the one before it in the file.

    Raises ConfigFaults, which holds every fault with its line and cure.
    """
    reader = _Reader(str(path), now)
    found = list(reader.read(_text(path)))
    if reader.faults:
        raise ConfigFaults(reader.faults)
    return list(_with_previous(sorted(found)))


def _with_previous(deployments: Iterable[Deployment]) -> Iterator[Deployment]:
    last: dict[str, str] = {}
    for one in deployments:
        before = last.get(one.service)
        if one.previous is None and before is not None and before != one.version:
            yield msgspec.structs.replace(one, previous=before)
        else:
            yield one
        last[one.service] = one.version


def _text(path: Path) -> str:
    def fault(message: str, line: int = 0) -> ConfigFaults:
        return ConfigFaults([Fault(file=str(path), line=line, where="", message=message)])

    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no path"
        raise fault(f"cannot be read: {reason}; check the path") from None
    if len(raw) > MAX_FILE_BYTES:
        raise fault(f"larger than {MAX_FILE_BYTES // 1024**2} MiB: is it the right file?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise fault("not UTF-8 text: save the file in UTF-8", raw.count(b"\n", 0, error.start) + 1) from None


class _Reader:
    """Reads a file and gathers its faults."""

    def __init__(self, file: str, now: float) -> None:
        self._file, self._now = file, now
        self.faults: list[Fault] = []
        self._seen: dict[tuple[str, float], int] = {}

    def read(self, text: str) -> Iterator[Deployment]:
        """The rows without faults."""
        rows = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
        header: list[str] | None = None
        while True:
            line = rows.line_num + 1
            try:
                row = next(rows)
            except StopIteration:
                break
            except csv.Error as error:
                self._fault(line, "", f"no CSV: {error}; check its quotes")
                break
            if not any(cell.strip() for cell in row):
                continue
            if header is None:
                header = [cell.strip() for cell in row]
                if not self._is_header(line, header):
                    return
            elif (found := self._deployment(line, header, row)) is not None:
                yield found
        if header is None and not self.faults:
            self._fault(1, "", f"empty: begin with a line `{','.join(NEEDED)}`")

    def _is_header(self, line: int, header: Sequence[str]) -> bool:
        before = len(self.faults)
        if len(header) > MAX_COLUMNS:
            self._fault(line, "", f"{len(header)} columns: the columns are {', '.join(COLUMNS)}; is it the right file?")
            return False
        for name in header:
            if name not in COLUMNS:
                near = difflib.get_close_matches(name, COLUMNS, n=1)
                cure = f"did you mean `{near[0]}`?" if near else f"the columns are {', '.join(COLUMNS)}"
                self._fault(line, "", f"there is no column `{name:.40}`; {cure}")
            elif header.count(name) > 1:
                self._fault(line, name, "this column is there twice: keep one")
        for name in NEEDED:
            if name not in header:
                self._fault(line, "", f"the column `{name}` is missing: the first line names the columns")
        return len(self.faults) == before

    def _deployment(self, line: int, header: Sequence[str], row: Sequence[str]) -> Deployment | None:
        if len(row) != len(header):
            said = f"{len(row)} values for {len(header)} columns: put a value that holds a comma in quotes"
            self._fault(line, "", said)
            return None
        before = len(self.faults)
        values = {name: cell.strip() for name, cell in zip(header, row, strict=True)}
        self._check_names(line, values)
        at = self._moment(line, values["deployed_at"])
        if values["version"] and values.get("previous") == values["version"]:
            self._fault(line, "previous", "the release itself: name the one that ran before it, or leave it empty")
        if at is not None and values["service"]:
            first = self._seen.setdefault((values["service"], at), line)
            if first != line:
                self._fault(line, "deployed_at", f"line {first} has a deployment of this service at this moment")
        if at is None or len(self.faults) > before:
            return None
        return Deployment(
            deployed_at=at,
            service=values["service"],
            version=values["version"],
            previous=values.get("previous") or None,
        )

    def _check_names(self, line: int, values: Mapping[str, str]) -> None:
        for name, most in LONGEST.items():
            value = values.get(name)
            if value == "" and name in NEEDED:
                self._fault(line, name, "empty: every deployment has one")
            elif value is not None and len(value) > most:
                self._fault(line, name, f"longer than {most} characters")

    def _moment(self, line: int, text: str) -> float | None:
        wanted = "write Unix seconds, or a moment with its zone as in 2026-11-24T10:00:00Z"
        try:
            at = float(text)
        except ValueError:
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                self._fault(line, "deployed_at", f"`{text:.40}` is no moment: {wanted}")
                return None
            if moment.tzinfo is None:
                self._fault(line, "deployed_at", f"`{text:.40}` has no zone: {wanted}")
                return None
            at = moment.timestamp()
        if at > MILLISECONDS:
            self._fault(line, "deployed_at", f"`{text:.40}` is no moment in seconds: are these milliseconds?")
            return None
        if not (math.isfinite(at) and at >= 0):
            self._fault(line, "deployed_at", f"`{text:.40}` is no moment: {wanted}")
            return None
        if at > self._now + FUTURE_S:
            self._fault(line, "deployed_at", f"`{text:.40}` lies in the future: check its zone")
            return None
        return at

    def _fault(self, line: int, where: str, message: str) -> None:
        self.faults.append(Fault(file=self._file, line=line, where=where, message=message))
