"""Structs to bytes and back; what could not be read again is refused before it is kept."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import msgspec

from rollbackd.errors import Permanent

T = TypeVar("T")
DecodedT = TypeVar("DecodedT", covariant=True)


class _Decoder(Protocol[DecodedT]):
    def decode(self, buf: bytes, /) -> DecodedT: ...


class _Encoder(Protocol):
    def encode(self, obj: object, /) -> bytes: ...


class Codec(Generic[T]):
    """One kind of entry. Types check what is made here, but not a limit on length or range: this does."""

    def __init__(self, encoder: _Encoder, decoder: _Decoder[T]) -> None:
        self._encoder, self._decoder = encoder, decoder

    def encode(self, value: T) -> bytes:
        """The bytes of `value`. Raises Permanent for what `decode` would refuse: one such entry would block all."""
        raw = self._encoder.encode(value)
        try:
            self._decoder.decode(raw)
        except msgspec.MsgspecError as error:
            raise Permanent(f"the ledger cannot keep this {type(value).__name__}: {error}") from error
        return raw

    def decode(self, raw: bytes) -> T:
        """The value. Raises msgspec's error."""
        return self._decoder.decode(raw)
