"""The shape every adapter module exports: its configuration model and the factory that builds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

from rollbackd.fields import Model

AdapterKind: TypeAlias = Literal["source", "target", "notifier", "intake", "ledger"]

ConfigT = TypeVar("ConfigT", bound=Model)
ContextT = TypeVar("ContextT", contravariant=True)
ProductT = TypeVar("ProductT", covariant=True)


@dataclass(frozen=True)
class Adapter(Generic[ConfigT, ContextT, ProductT]):
    """One adapter: `build(config, context)` makes it, without I/O; what can fail, fails when it is first used.

    `shorthand` names the field that a bare string stands for, as in `metrics: http://...`; None where there is none.
    `place` names the one place that a target with these settings reverts, which no other may revert as well; left out,
    the shorthand's field does.
    """

    config: type[ConfigT]
    build: Callable[[ConfigT, ContextT], ProductT]
    shorthand: str | None = None
    place: Callable[[ConfigT], str] | None = None
