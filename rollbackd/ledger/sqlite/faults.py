"""What can go wrong under the ledger, said in the operator's words and sorted by whether waiting can help."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rollbackd.errors import Permanent, RollbackdError, Temporary

_PASSING = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space and it goes on by itself",
    sqlite3.SQLITE_IOERR: "the disk reports an error or is full; it goes on by itself once that is cured",
    sqlite3.SQLITE_BUSY: "another program holds the file; it goes on by itself once that lets go",
    sqlite3.SQLITE_LOCKED: "another program holds the file; it goes on by itself once that lets go",
    sqlite3.SQLITE_PROTOCOL: "another program holds the file; it goes on by itself once that lets go",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
    sqlite3.SQLITE_CANTOPEN: "a file beside it cannot be opened; are there free file descriptors and inodes?",
}
_LASTING = {
    sqlite3.SQLITE_READONLY: "it cannot be written; give the user that runs rollbackd the right to write it",
    sqlite3.SQLITE_PERM: "access is denied; give the user that runs rollbackd the right to write it",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database; restore a backup, or move it away to start empty",
    sqlite3.SQLITE_CORRUPT: "it is damaged; restore a backup, or move it away to start empty",
}
_PASSING_OS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EAGAIN,
    errno.EFBIG,
}


_MAY_WRITE = "; set `data_dir` to a folder where the daemon's user may write"


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite, the system and the codecs raise into our own errors, naming the file and the cure."""
    try:
        yield
    except RollbackdError:
        raise
    except sqlite3.Error as error:
        raise _of_sqlite(path, error) from error
    except OSError as error:
        kind = Temporary if error.errno in _PASSING_OS else Permanent
        cure = _MAY_WRITE if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else ""
        raise kind(f"the ledger {path} cannot be used: {error.strerror or error}{cure}") from error
    except msgspec.MsgspecError as error:
        raise Permanent(f"the ledger {path} holds an entry that cannot be read: {error}") from error
    except UnicodeEncodeError as error:
        raise Permanent(f"the ledger {path} cannot keep text that is not valid Unicode: {error.reason}") from error


def _of_sqlite(path: Path, error: sqlite3.Error) -> RollbackdError:
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None  # the upper bits refine, see sqlite.org/rescode.html
    if primary in _PASSING:
        return Temporary(f"the ledger {path} cannot be used now: {_PASSING[primary]} ({error})")
    if primary in _LASTING:
        return Permanent(f"the ledger {path} cannot be used: {_LASTING[primary]} ({error})")
    return Permanent(f"the ledger {path} refused: {error}")
