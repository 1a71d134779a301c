"""Label matchers: a service's name stands for itself, whatever is in it."""

from __future__ import annotations

import pytest

from rollbackd.backtest.selector import read_match
from rollbackd.errors import ConfigError
from rollbackd.metrics.promql import named


@pytest.mark.parametrize(
    ("template", "service", "expected"),
    [
        ('job="{service}"', "shop", 'job="shop"'),
        ('{job="{service}"}', "shop", 'job="shop"'),
        ('{service}="x",job="{service}"', "shop", None),
        (' job = "{service}" , env!="test" ', "shop", 'job="shop",env!="test"'),
        ("job='{service}'", "shop", 'job="shop"'),
        ("job='say \"{service}\"'", "shop", 'job="say \\"shop\\""'),
        ('job=~"{service}-.*"', "a.b", 'job=~"a\\\\.b-.*"'),
        ('job="{service}"', "a.b", 'job="a.b"'),
        ('job="{service}"', 'x"} or up{job="y\\', 'job="x\\"} or up{job=\\"y\\\\"'),
        ('job="{service}",', "shop", 'job="shop"'),
    ],
)
def test_a_name_is_put_in_its_place(template: str, service: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(ConfigError, match="no label matcher"):
            read_match(template)
    else:
        assert read_match(template).of(service) == expected


@pytest.mark.parametrize(
    "template", ["", "job", "job={service}", 'job="checkout"', 'up{job="{service}"}', 'job="{service}']
)
def test_what_is_no_template_is_refused_with_the_cure(template: str) -> None:
    with pytest.raises(ConfigError, match=r'job="\{service\}"'):
        read_match(template)


def test_the_labels_that_a_source_picks_its_series_by_are_asked_for_too() -> None:
    matchers = read_match('job="{service}"').of("shop", {"cluster": 'a"b'})
    assert named(["b_total", "a_total", "odd.name"], matchers) == (
        '{__name__=~"a_total|b_total|odd\\\\.name",job="shop",cluster="a\\"b"}'
    )
