"""The configuration file to the configuration and its stamp."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rollbackd.config.blocks import Catalog
from rollbackd.config.document import MAX_BYTES
from rollbackd.config.faults import ConfigFaults, Fault
from rollbackd.config.reading import read
from rollbackd.config.schema import Config
from rollbackd.config.stamp import stamp
from rollbackd.fields import size_text
from rollbackd.ledger.base import ConfigStamp


@dataclass(frozen=True)
class Loaded:
    """A configuration without faults, and which one it is."""

    config: Config
    stamp: ConfigStamp


def load(path: Path, catalog: Catalog, *, reveal: bool = True) -> Loaded:
    """Read and check a configuration file. `reveal` asks that every secret can be read now.

    Raises ConfigFaults, which holds every fault. Blocks while it reads and asks git: a moment, seconds at worst.
    """
    raw = _bytes(path)
    return Loaded(config=read(raw, str(path), catalog, reveal=reveal), stamp=stamp(path, raw))


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        link = f": it is a link to {path.readlink()}, which is not there" if path.is_symlink() else ""
        raise _whole(path, f"no such file{link or ': check the path, or write one'}") from None
    except IsADirectoryError:
        raise _whole(path, "a directory: name the file in it") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no path"
        raise _whole(path, f"cannot be read: {reason}; check its permissions and links") from None
    if len(raw) > MAX_BYTES:
        raise _whole(path, f"larger than {size_text(MAX_BYTES)}: is it the right file?")
    return raw


def _whole(path: Path, message: str) -> ConfigFaults:
    return ConfigFaults([Fault(file=str(path), line=0, where="", message=message)])
