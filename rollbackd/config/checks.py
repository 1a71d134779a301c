"""What pydantic cannot see because it lies between keys: contradictions, services that do not exist, open doors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rollbackd.config.blocks import Catalog
from rollbackd.config.faults import Findings, KeyPath
from rollbackd.config.schema import Block, Config, Defaults
from rollbackd.config.words import suggestion
from rollbackd.decide.policy import Policy
from rollbackd.errors import ConfigError
from rollbackd.fields import Model, Secret, duration_text

SHORTEST_TOKEN = 16
"""Characters that a credential needs at least: 64 bits where it is random hexadecimal digits."""

_RESERVED = frozenset({"anonymous", "daemon", "engine"})


def check(config: Config, catalog: Catalog, findings: Findings, *, reveal: bool = False) -> None:
    """Add what contradicts itself. Nothing is said about values that are known to be wrong already.

    `reveal` asks that credentials are looked at as well.
    """
    _times(Config.policy_for(config, ""), config.defaults, ("defaults",), findings)
    _dependencies(config.defaults, ("defaults",), config, findings)
    for name, service in config.services.items():
        path: KeyPath = ("services", name)
        _times(config.policy_for(name), service, path, findings)
        _dependencies(service, path, config, findings)
        if name in service.depends_on:
            findings.add((*path, "depends_on"), "a service cannot depend on itself: remove it from the list")
    _targets(config, catalog, findings)
    _tokens(config, findings)
    if reveal:
        _credentials(config, findings)
    _open_doors(config, findings)


def _times(policy: Policy, own: Defaults, path: KeyPath, findings: Findings) -> None:
    for longer, shorter, cure in (
        ("bake", "warmup", "or nothing is watched after the warm-up"),
        ("verify_within", "verify_for", "or no rollback can ever be verified in time"),
    ):
        said = [key for key in (longer, shorter) if key in own.model_fields_set]
        involved = [(*top, key) for top in (path, ("defaults",)) for key in (longer, shorter)]
        if any(findings.touches(key) for key in involved):
            continue
        long, short = getattr(policy, longer), getattr(policy, shorter)
        if long <= short:
            message = f"`{longer}` ({duration_text(long)}) must be longer than `{shorter}` ({duration_text(short)})"
            findings.add((*path, said[0]), f"{message}, {cure}")


def _dependencies(own: Defaults, path: KeyPath, config: Config, findings: Findings) -> None:
    for index, name in enumerate(own.depends_on):
        if name not in config.services:
            known = suggestion(name, config.services)
            findings.add((*path, "depends_on", index), f"there is no service `{name}` in this file; {known}")


def _targets(config: Config, catalog: Catalog, findings: Findings) -> None:
    """Two services cannot share a place: reverting one would revert the other."""
    seen: dict[tuple[str, object], str] = {}
    for name, service in config.services.items():
        if service.target is None:
            continue
        place = (service.target.name, _place(service.target, catalog))
        if place[1] is not None and place in seen:
            message = f"the very target of `{seen[place]}`: each service needs a target of its own"
            findings.add(("services", name, "target"), message)
        seen.setdefault(place, name)


def _place(target: Block, catalog: Catalog) -> str | None:
    """What names a target's place: what it says itself, else what a bare string would stand for, if there is either."""
    adapter = catalog.load(target.kind, target.name)
    if adapter.place is not None:
        return adapter.place(target.settings)
    field = adapter.shorthand
    return str(getattr(target.settings, field)) if field is not None else None


def _tokens(config: Config, findings: Findings) -> None:
    seen: set[str] = set()
    for index, token in enumerate(config.auth.tokens):
        path = ("auth", "tokens", index, "name")
        if token.name in _RESERVED:
            findings.add(path, f"`{token.name}` means something else in the audit trail: choose another name")
        elif token.name in seen:
            findings.add(path, "another token has this name already: choose another one")
        seen.add(token.name)


def _credentials(config: Config, findings: Findings) -> None:
    """Two names with one credential would be one caller, with the scopes and in the audit trail of the first."""
    seen: dict[str, str] = {}
    for index, token in enumerate(config.auth.tokens):
        path: KeyPath = ("auth", "tokens", index, "token")
        value = _value(token.token)
        if value is None or _short(value, path, findings):
            continue
        if value in seen:
            findings.add(path, f"the very credential of `{seen[value]}`: each token needs one of its own")
        seen.setdefault(value, token.name)
    for block in config.intake:
        for where, secret in _secrets(block.settings, ("intake", block.name)):
            value = _value(secret)
            if value is not None:
                _short(value, where, findings)


def _value(secret: Secret) -> str | None:
    try:
        return secret.reveal()
    except ConfigError:  # told where the secret was read
        return None


def _short(value: str, path: KeyPath, findings: Findings) -> bool:
    """Whether a credential is so short that guessing finds it: no number of wrong ones keeps a right one out."""
    if len(value) >= SHORTEST_TOKEN:
        return False
    cure = "make a longer one, as with `openssl rand -hex 32`"
    findings.add(path, f"the credential has fewer than {SHORTEST_TOKEN} characters, which can be guessed: {cure}")
    return True


def _secrets(settings: object, path: KeyPath) -> Iterator[tuple[KeyPath, Secret]]:
    """Every secret among settings, with where it stands."""
    if isinstance(settings, Secret):
        yield path, settings
    elif isinstance(settings, Model):
        for name in type(settings).model_fields:
            yield from _secrets(getattr(settings, name), (*path, name))
    elif isinstance(settings, dict):
        for key, value in settings.items():
            yield from _secrets(value, (*path, str(key)))


def _open_doors(config: Config, findings: Findings) -> None:
    if any(findings.touches(key) for key in (("listen",), ("auth", "anonymous"))):
        return
    scopes = sorted(config.auth.anonymous - {"read"})
    if scopes and not config.listen.loopback:
        message = (
            f"whoever reaches {config.listen} could {_and(scopes)} without a credential: "
            "listen on 127.0.0.1, or give these scopes to a token"
        )
        findings.add(("auth", "anonymous"), message)


def _and(words: Iterable[str]) -> str:
    return " and ".join(words)


def notes(config: Config) -> Iterator[str]:
    """What is allowed but perhaps not meant, one sentence each."""
    for name, service in config.services.items():
        if not service.streams:
            yield f"{name}: nothing is watched but pushed alerts; set `metrics`, `probe` or `logs`."
        if service.target is None:
            yield f"{name}: no target, so trouble is told, but nothing can be reverted."
    if config.services and not config.notify:
        yield "Nobody is told of decisions: `notify` is empty."
