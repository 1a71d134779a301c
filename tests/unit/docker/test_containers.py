"""Image references, and the release that a container runs."""

from __future__ import annotations

import pytest

from rollbackd.docker.containers import (
    OCI_VERSION,
    Container,
    Settings,
    State,
    VersionPart,
    repository,
    split,
    version_of,
)


@pytest.mark.parametrize(
    ("reference", "parts", "full"),
    [
        ("shop", ("shop", "", ""), "docker.io/library/shop"),
        ("shop:v1", ("shop", "v1", ""), "docker.io/library/shop"),
        ("me/shop:v1", ("me/shop", "v1", ""), "docker.io/me/shop"),
        ("index.docker.io/me/shop", ("index.docker.io/me/shop", "", ""), "docker.io/me/shop"),
        ("localhost/shop", ("localhost/shop", "", ""), "localhost/shop"),
        ("host:5000/a/shop", ("host:5000/a/shop", "", ""), "host:5000/a/shop"),
        ("host:5000/shop:v1", ("host:5000/shop", "v1", ""), "host:5000/shop"),
        ("r.io/shop:v1@sha256:" + "a" * 64, ("r.io/shop", "v1", "sha256:" + "a" * 64), "r.io/shop"),
    ],
)
def test_image_references_are_read_as_docker_does(reference: str, parts: tuple[str, str, str], full: str) -> None:
    assert (split(reference), repository(reference)) == (parts, full)


@pytest.mark.parametrize(
    ("reference", "order", "version"),
    [
        ("shop:v1", ("tag", "digest"), "v1"),
        ("shop", ("tag", "digest"), "sha256:" + "b" * 64),
        ("other/shop:latest", ("tag", "digest"), "sha256:" + "0" * 64),
        ("shop@sha256:" + "c" * 64, ("tag", "digest"), "sha256:" + "c" * 64),
        ("sha256:" + "0" * 64, ("tag", "digest"), "sha256:" + "0" * 64),
        ("shop:v1", ("label", "tag"), "1.2"),
        ("shop:latest", ("tag",), None),
    ],
)
def test_the_release_is_what_says_something_first(
    reference: str, order: tuple[VersionPart, ...], version: str | None
) -> None:
    settings = Settings(image=reference, labels={OCI_VERSION: " 1.2 "})
    container = Container("c", settings, State(), image="sha256:" + "0" * 64)
    digests = ["docker.io/library/shop@sha256:" + "b" * 64, "elsewhere.io/shop@sha256:" + "d" * 64]
    assert version_of(container, digests, order) == version
