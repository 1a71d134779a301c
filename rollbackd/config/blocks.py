"""Reads the parts of a configuration that adapters define: targets, sources, notifiers, intakes and the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from rollbackd.adapter import Adapter, AdapterKind
from rollbackd.config.faults import Findings, KeyPath
from rollbackd.config.schema import Block
from rollbackd.config.words import found, neither_bare_nor_settings, suggestion, validate
from rollbackd.errors import ConfigError
from rollbackd.fields import AsWritten, Model

STREAMS: Mapping[str, str] = {"metrics": "scrape", "probe": "probe", "logs": "log_file"}
"""Keys of a service that are a source each, without its name."""
INTAKES = ("alertmanager", "deployments")
"""Intakes that are on unless switched off."""
LEDGER = "sqlite"
"""The ledger where none is named."""

NOTHING = Block(kind="ledger", name="", label="", settings=Model())
"""Stands for a ledger that could not be read, so that the rest can be checked."""


class Catalog(Protocol):
    """The adapters that can be named. `rollbackd.registry` is one."""

    def names(self, kind: AdapterKind, /) -> list[str]:
        """The names of that kind."""

    def load(self, kind: AdapterKind, name: str, /) -> Adapter[Any, Any, Any]:
        """The adapter of that name. Raises ConfigError where there is none or it cannot be imported."""


class BlockReader:
    """Turns the blocks in plain values into `Block` objects; what cannot be read goes to the findings."""

    def __init__(self, catalog: Catalog, findings: Findings, context: AsWritten) -> None:
        self._catalog, self._findings, self._context = catalog, findings, context
        self._names: dict[AdapterKind, list[str]] = {}  # asking what is installed takes milliseconds

    def replace_all(self, data: Mapping[str, object]) -> dict[str, object]:
        """The data of a file with every block read; blocks with faults are left out."""
        result = dict(data)
        ledger = self._entry(
            "ledger", {LEDGER: {}} if data.get("ledger") is None else data["ledger"], ("ledger",), named=False
        )
        result["ledger"] = ledger or NOTHING
        result["intake"] = self._intakes(data.get("intake"))
        if "notify" in data:
            result["notify"] = self._list("notifier", data["notify"], ("notify",))
        services = data.get("services")
        if isinstance(services, Mapping):
            result["services"] = {
                name: self._service(service, ("services", name)) for name, service in services.items()
            }
        return result

    def _service(self, service: object, path: KeyPath) -> object:
        if not isinstance(service, Mapping):
            return service
        result = dict(service)
        if "target" in service:
            result["target"] = self._entry("target", service["target"], (*path, "target"), named=False)
        taken: set[str] = set()
        for key, source in STREAMS.items():
            if key in service:
                result[key] = self._streams(source, service[key], (*path, key), taken)
        if "sources" in service:
            result["sources"] = self._list("source", service["sources"], (*path, "sources"), taken)
        return result

    def _streams(self, source: str, value: object, path: KeyPath, taken: set[str]) -> tuple[Block, ...]:
        many = isinstance(value, list)
        entries = value if isinstance(value, list) else [] if value is None else [value]
        read = []
        for index, entry in enumerate(entries):
            block = self._settings("source", source, entry, (*path, index) if many else path)
            if block is not None:
                read.append(self._labelled(block, None, path, taken))
        return tuple(read)

    def _list(
        self, kind: AdapterKind, value: object, path: KeyPath, taken: set[str] | None = None
    ) -> tuple[Block, ...]:
        if value is None:
            return ()
        if not isinstance(value, list):
            self._findings.add(path, f"expected a list of {kind}s, as in [{{NAME: ...}}]; found {found(value)}")
            return ()
        labels: set[str] = set() if taken is None else taken
        read = []
        for index, entry in enumerate(value):
            here = (*path, index)
            block = self._entry(kind, entry, here, named=True)
            if block is not None:
                own = entry.get("name") if isinstance(entry, Mapping) else None
                read.append(self._labelled(block, own, (*here, "name"), labels))
        return tuple(read)

    def _labelled(self, block: Block, own: object, path: KeyPath, taken: set[str]) -> Block:
        label = block.name
        if own is not None:
            if not isinstance(own, str) or not own.strip():
                self._findings.add(path, f"expected text that tells this entry from others; found {found(own)}")
            elif own in taken:
                self._findings.add(path, "another entry has this name already: choose another one")
            else:
                label = own.strip()
        count = 1
        while own is None and label in taken:
            count += 1
            label = f"{block.name}#{count}"
        taken.add(label)
        return Block(block.kind, block.name, label, block.settings)

    def _intakes(self, value: object) -> tuple[Block, ...]:
        wanted: dict[str, object] = {name: {} for name in INTAKES}
        if isinstance(value, Mapping):
            for name, settings in value.items():
                wanted[name] = {} if settings in (True, "on") else settings
        elif value is not None:
            self._findings.add(("intake",), f"expected a mapping of intakes by name; found {found(value)}")
        read = [
            self._settings("intake", name, settings, ("intake", name))
            for name, settings in wanted.items()
            if self._known("intake", name, ("intake", name)) and settings not in (False, "off")
        ]
        return tuple(block for block in read if block is not None)

    def _entry(self, kind: AdapterKind, value: object, path: KeyPath, *, named: bool) -> Block | None:
        """A mapping whose single key (beside `name`, where allowed) is the adapter's name."""
        names = self._names_of(kind)
        if not isinstance(value, Mapping):
            hint = f"{{{value}: ...}}" if isinstance(value, str) and value in names else "{NAME: ...}"
            known = ", ".join(names)
            self._findings.add(path, f"expected a {kind} as in {hint}; found {found(value)}; known: {known}")
            return None
        keys = [key for key in value if not (named and key == "name")]
        if len(keys) != 1:
            hint = ", write each as an entry of its own" if named and len(keys) > 1 else ""
            counted = f"found {len(keys)}: {', '.join(keys)}" if keys else f"found none; known: {', '.join(names)}"
            self._findings.add(path, f"expected the name of one {kind}; {counted}{hint}")
            return None
        here = (*path, keys[0])
        return self._settings(kind, keys[0], value[keys[0]], here) if self._known(kind, keys[0], here) else None

    def _known(self, kind: AdapterKind, name: str, path: KeyPath) -> bool:
        names = self._names_of(kind)
        if name not in names:
            self._findings.add(path, f"there is no such {kind}; {suggestion(name, names)}")
        return name in names

    def _names_of(self, kind: AdapterKind) -> list[str]:
        if kind not in self._names:
            self._names[kind] = self._catalog.names(kind)
        return self._names[kind]

    def _settings(self, kind: AdapterKind, name: str, value: object, path: KeyPath) -> Block | None:
        try:
            adapter = self._catalog.load(kind, name)
        except ConfigError as error:
            self._findings.add(path, str(error))
            return None
        bare = None
        if value is None:
            value = {}
        elif adapter.shorthand is not None and isinstance(value, str):
            bare = adapter.shorthand
            value = {bare: value}
        elif adapter.shorthand is not None and not isinstance(value, Mapping):
            self._findings.add(path, neither_bare_nor_settings(kind, adapter.config, adapter.shorthand, value))
            return None
        settings: Model | None = validate(adapter.config, value, path, self._findings, self._context, bare)
        return None if settings is None else Block(kind=kind, name=name, label=name, settings=settings)
