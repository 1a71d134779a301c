"""Finding a release's name in a manifest."""

from __future__ import annotations

import pytest

from rollbackd.errors import Permanent
from rollbackd.targets.manifest import LONGEST_MANIFEST, Part, part_of, steps, value

DEPLOYMENT = b"""
apiVersion: v1
kind: Service
---
kind: Deployment
spec:
  template:
    spec:
      containers:
        - {name: proxy, image: envoy}
        - {name: app, image: "registry:5000/acme/checkout:1.10@sha256:%s"}
""" % (b"a" * 64)


@pytest.mark.parametrize(
    ("manifest", "expression", "expected"),
    [
        (b"image: {tag: v1}", "image.tag", "v1"),
        (b"image: {tag: 1.10}", "image.tag", "1.10"),
        (b"tag: 0123", "tag", "0123"),
        (b"tag: null", "tag", "null"),
        (b"images: [{newTag: a}, {newTag: b}]", "images[1].newTag", "b"),
        (b"images: [{name: x/y, newTag: a}, {name: x/z, newTag: b}]", "images[name=x/z].newTag", "b"),
        (b"- {tag: a}", "[0].tag", "a"),
        (b"a: [[b, c]]", "a[0][1]", "c"),
        (b"app-x: {image_tag: ' v1 '}", "app-x.image_tag", "v1"),
        (b"other: 1\n---\ntag: v2\n---\ntag: v3", "tag", "v2"),
        (b"&a a: &b v1\nb: *b", "b", "v1"),
    ],
)
def test_a_value_is_found_as_it_is_written(manifest: bytes, expression: str, expected: str) -> None:
    assert value(manifest, expression) == expected


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("whole", f"registry:5000/acme/checkout:1.10@sha256:{'a' * 64}"),
        ("tag", "1.10"),
        ("digest", f"sha256:{'a' * 64}"),
    ],
)
def test_a_part_of_an_image_reference_can_be_the_version(part: Part, expected: str) -> None:
    assert value(DEPLOYMENT, "spec.template.spec.containers[name=app].image", part) == expected


def test_a_port_is_no_tag() -> None:
    assert part_of("registry:5000/acme/checkout", "tag") is None
    assert part_of("envoy", "digest") is None


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (b"image: {}", "has no text at `image.tag`"),
        (b"image: [tag]", "has no text"),
        (b"image: {tag: [a]}", "has no text"),
        (b"image: {tag: ''}", "has no text"),
        (b"", "has no text"),
        (b"{{ if .Values }}\nimage: x\n{{ end }}", "is not plain YAML"),
        (b"image: [", "is not plain YAML"),
        (b"\xff\xfe\x00", "is not plain YAML"),
        (b"\0garbage", "is not plain YAML"),
        (b"[" * 5000, "is not plain YAML"),
        (b"{? [a] : b}", "is not plain YAML"),
        (b"image: *nowhere", "is not plain YAML"),
        (b"a" * (LONGEST_MANIFEST + 1), "is larger than"),
    ],
)
def test_what_cannot_be_read_is_told(manifest: bytes, said: str) -> None:
    with pytest.raises(Permanent) as caught:
        value(manifest, "image.tag")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_without_the_part_is_told() -> None:
    with pytest.raises(Permanent, match="has an image without digest at `image`"):
        value(b"image: envoy:1", "image", "digest")


def test_a_manifest_that_repeats_itself_without_end_costs_nothing() -> None:
    """Ten lines that would be a thousand million values, were they ever written out."""
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    assert value("\n".join([*lines, "tag: v1"]).encode(), "tag") == "v1"


@pytest.mark.parametrize(
    "expression", ["", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[-1]", "a[0", "a]b", "a[=x]", "a[b=]", "a.[0]"]
)
def test_an_expression_that_means_nothing_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="write a path such as"):
        steps(expression)
