"""TLS for sources that pull: whom to trust, and the certificate to show; files are read anew once they change."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Self, TypeAlias

from pydantic import model_validator

from rollbackd.fields import Model

_Stamp: TypeAlias = tuple[int, int, int]


class CertificateFault(Exception):
    """A file of certificates or keys cannot be used; the message names the setting, the file and the cure."""


class Tls(Model):
    """How the far side's certificate is checked, and which one is shown to it."""

    verify: bool = True
    """Whether it is checked at all."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's, as a PEM file."""
    cert_file: Path | None = None
    """The certificate to show where the far side asks for one (mTLS), with those that lead to its root; a PEM file."""
    key_file: Path | None = None
    """That certificate's private key without a passphrase, as a PEM file; left out, it is in `cert_file` as well."""

    @model_validator(mode="after")
    def _key_has_certificate(self) -> Self:
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("`key_file` is the key of a certificate: name that in `cert_file`")
        return self

    @property
    def files(self) -> list[Path]:
        """The files that are read."""
        return [path for path in (self.ca_file, self.cert_file, self.key_file) if path is not None]


class Trust:
    """The TLS context that the settings ask for. It is made anew when a file of it has changed, and only then: a
    connection can be used again under the context alone that it was made under."""

    def __init__(self, settings: Tls) -> None:
        self._settings = settings
        self._stamps: list[_Stamp] = []
        self._context: ssl.SSLContext | None = None

    def context(self) -> bool | ssl.SSLContext:
        """The context as aiohttp takes it. Reads files. Raises CertificateFault."""
        tls = self._settings
        if not tls.files:
            return tls.verify
        stamps = [_stamp(path) for path in tls.files]
        if self._context is None or stamps != self._stamps:
            self._context, self._stamps = _made(tls), stamps
        return self._context


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)  # reading it will tell
    return found.st_mtime_ns, found.st_ino, found.st_size


def _made(tls: Tls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(tls.ca_file) if tls.ca_file is not None else None)
    except (OSError, ssl.SSLError):
        raise CertificateFault(f"cannot read certificates from `tls.ca_file` {tls.ca_file}") from None
    if not tls.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if tls.cert_file is not None:
        _show(context, tls.cert_file, tls.key_file or tls.cert_file)
    return context


def _show(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    for setting, path in (("cert_file", certificate), ("key_file", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise CertificateFault(f"cannot read `tls.{setting}` {path}: {error.strerror}") from None
    locked = False

    def no_passphrase() -> bytes:
        nonlocal locked
        locked = True  # without an answer OpenSSL would ask at the terminal
        return b""

    try:
        context.load_cert_chain(certificate, key, no_passphrase)
    except (ssl.SSLError, ValueError) as error:
        if locked:
            raise CertificateFault(f"`tls.key_file` {key} is locked with a passphrase: give it without one") from None
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateFault(f"the key in {key} does not belong to the certificate in {certificate}") from None
        raise CertificateFault(
            f"{certificate} and {key} hold no certificate and its key in PEM (set `tls.cert_file` and `tls.key_file`)"
        ) from None


def refused_certificate(error: Exception) -> str | None:
    """What the far side has against the certificate that was shown, or was not; None where the error is another one.

    In TLS 1.3 the refusal comes after the handshake, wherever the answer is waited for.
    """
    alert = next((one.reason for one in _behind(error) if isinstance(one, ssl.SSLError)), None) or str(error)
    if "CERTIFICATE_REQUIRED" in alert:
        return "asks for a certificate: set `tls.cert_file` and `tls.key_file`"
    if "ALERT" in alert and ("CERTIFICATE" in alert or "UNKNOWN_CA" in alert):
        return "does not accept the certificate in `tls.cert_file`"
    return None


def _behind(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and len(found) < 5:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
