"""What can be the name of a release."""

from __future__ import annotations

import unicodedata

_LONGEST = 500


def fit(version: str) -> bool:
    """Whether this text can name a release: not empty, not too long, and without control characters or broken text."""
    if not version or len(version) > _LONGEST:
        return False
    return not any(unicodedata.category(sign) in ("Cc", "Cs") or sign == "\ufffd" for sign in version)


def shown(version: str) -> str:
    """A name that somebody gave, fit for a message whatever it holds."""
    return version if fit(version) else repr(version.encode(errors="backslashreplace").decode())[:200]
