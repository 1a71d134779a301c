"""The tree of errors: everything rollbackd raises on purpose, and whether trying again can help."""

from __future__ import annotations


class RollbackdError(Exception):
    """Base of every error that rollbackd raises on purpose.

    The message is one sentence for the operator: what went wrong, where, and what would cure it.
    It never holds a secret.
    """


class Temporary(RollbackdError):
    """Trying again later can help: a timeout, a refused connection, a busy peer.

    `retry_after` is the peer's own wish in seconds, where it stated one.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Permanent(RollbackdError):
    """Trying the same again cannot help: wrong credentials, a missing release, a malformed answer."""


class ConfigError(Permanent):
    """The operator's configuration cannot be used. The message may have several lines, one fault each."""


class RecordingError(Permanent):
    """A recording's line is not an Event; the message says file, line and what is wrong."""


class Conflict(Permanent):
    """The world changed since the order was given: someone else deployed, or the key was already spent."""
