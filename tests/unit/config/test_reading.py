"""What a good configuration means."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollbackd.config.schema import Block
from rollbackd.decide.policy import Policy
from rollbackd.detect.settings import AlertSettings, Rules
from rollbackd.fields import Secret
from tests.unit.config.catalog import (
    DirSettings,
    HookSettings,
    Nothing,
    PathSettings,
    PostSettings,
    UrlSettings,
    parsed,
)

USEFUL = """
services:
  checkout:
    target: {release_dir: {path: /srv/checkout, restart: "systemctl restart checkout"}}
    metrics: http://127.0.0.1:8080/metrics
"""


def test_a_useful_file_is_under_ten_lines() -> None:
    service = parsed(USEFUL).services["checkout"]
    assert service.target == Block(
        "target",
        "release_dir",
        "release_dir",
        DirSettings(path=Path("/srv/checkout"), restart="systemctl restart checkout"),
    )
    assert service.streams == (Block("source", "scrape", "scrape", UrlSettings(url="http://127.0.0.1:8080/metrics")),)


@pytest.mark.parametrize(
    "text", ["", "{}", "# only a comment\n", "---\n", "null", "\ufeff{}", "services:\nauth:\nlog:\n"]
)
def test_nothing_is_a_configuration_too(text: str) -> None:
    config = parsed(text)
    assert str(config.listen) == "127.0.0.1:9797"
    assert config.mode == "act"
    assert config.data_dir == Path("/var/lib/rollbackd")
    assert (config.ledger.name, config.ledger.settings) == ("sqlite", Nothing())
    assert config.auth.anonymous == {"read"}
    assert config.services == {}
    assert config.notify == ()
    assert [block.name for block in config.intake] == ["alertmanager", "deployments"]


def test_a_service_that_no_configuration_names_is_judged_by_the_default_policy() -> None:
    assert parsed("").policy_for("stranger") == Policy()
    assert parsed("").mode_for("stranger") == "act"


def test_a_service_may_be_named_and_nothing_more() -> None:
    config = parsed("services:\n  checkout:\n")
    assert config.services["checkout"].target is None
    assert config.policy_for("checkout") == Policy()


def test_defaults_hold_where_a_service_says_nothing() -> None:
    config = parsed("defaults: {bake: 2h, cooldown: 1m}\nservices: {a: {bake: 3h}, b: {}}")
    assert [config.policy_for(name).bake for name in ("a", "b", "stranger")] == [10800, 7200, 7200]
    assert config.policy_for("a").cooldown == 60


def test_a_services_own_value_wins_even_where_it_is_the_built_in_default() -> None:
    assert parsed("defaults: {bake: 2h}\nservices: {a: {bake: 1h}}").policy_for("a").bake == 3600


def test_rules_are_layered_setting_by_setting() -> None:
    config = parsed("""
defaults:
  rules: {alert: {lasting: 3m}, latency: off, log_signature: {lines: 5}}
services:
  a:
    rules: {alert: {severities: [page]}, latency: on, traffic_loss: off}
""")
    assert config.policy_for("a").rules == Rules(
        alert=AlertSettings(severities=("page",), lasting=180),
        log_signature=config.policy_for("stranger").rules.log_signature,
        traffic_loss=None,
    )
    assert config.policy_for("stranger").rules.latency is None


def test_the_policy_of_a_service_is_a_policy_and_nothing_else() -> None:
    assert type(parsed(USEFUL).policy_for("checkout")) is Policy


def test_the_nearest_mode_counts() -> None:
    config = parsed("mode: shadow\nservices: {a: {mode: act}, b: {}}")
    assert [config.mode_for(name) for name in ("a", "b", "stranger")] == ["act", "shadow", "shadow"]
    config = parsed("defaults: {mode: shadow}\nservices: {a: {mode: act}, b: {}}")
    assert [config.mode_for(name) for name in ("a", "b", "stranger")] == ["act", "shadow", "shadow"]


def test_what_all_depend_on_does_not_depend_on_itself() -> None:
    config = parsed("defaults: {depends_on: [db]}\nservices: {db: {}, shop: {}}")
    assert config.policy_for("shop").depends_on == ("db",)
    assert config.policy_for("db").depends_on == ()


def test_services_may_depend_on_each_other() -> None:
    config = parsed("services: {a: {depends_on: [b]}, b: {depends_on: [a]}}")
    assert config.policy_for("a").depends_on == ("b",)


def test_streams_have_short_forms_and_a_general_one() -> None:
    service = parsed("""
services:
  checkout:
    metrics: [http://a/metrics, {url: "http://b/metrics", interval: 30s}]
    probe: {url: tcp://a}
    logs: /var/log/checkout.log
    sources:
      - scrape: http://c/metrics
      - name: edge
        probe: http://d
      - log_file: {path: /var/log/other.log, format: json}
""").services["checkout"]
    assert [(block.name, block.label) for block in service.streams] == [
        ("scrape", "scrape"),
        ("scrape", "scrape#2"),
        ("probe", "probe"),
        ("log_file", "log_file"),
        ("scrape", "scrape#3"),
        ("probe", "edge"),
        ("log_file", "log_file#2"),
    ]
    assert service.streams[1].settings == UrlSettings(url="http://b/metrics", interval=30)
    assert service.streams[6].settings == PathSettings(path=Path("/var/log/other.log"), format="json")


def test_notifiers_are_told_apart_by_name_or_by_number() -> None:
    config = parsed("""
notify:
  - webhook: http://a
  - webhook: {url: {env: HOOK}, headers: {X-Key: {file: /k}, X-Team: shop}}
  - name: pager
    webhook: http://b
  - log:
""")
    assert [block.label for block in config.notify] == ["webhook", "webhook#2", "pager", "log"]
    assert config.notify[1].settings == PostSettings(
        url=Secret(env="HOOK"), headers={"X-Key": Secret(file=Path("/k")), "X-Team": "shop"}
    )


def test_intakes_are_switched_off_changed_and_added() -> None:
    config = parsed("intake: {deployments: off, alertmanager: {labels: [app]}, loki: on}")
    assert [(block.name, block.settings) for block in config.intake] == [
        ("alertmanager", HookSettings(labels=("app",))),
        ("loki", Nothing()),
    ]


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:9797", "127.0.0.1", 9797, True),
        ("127.1.2.3:1", "127.1.2.3", 1, True),
        ("localhost:80", "localhost", 80, True),
        ("[::1]:9797", "::1", 9797, True),
        ("[::]:9797", "::", 9797, False),
        ("0.0.0.0:0", "0.0.0.0", 0, False),
        ("rollbackd.internal:443", "rollbackd.internal", 443, False),
    ],
)
def test_listen_is_a_host_and_a_port(text: str, host: str, port: int, loopback: bool) -> None:
    listen = parsed(f'listen: "{text}"').listen
    assert (listen.host, listen.port, listen.loopback, str(listen)) == (host, port, loopback, text)


def test_anyone_may_deploy_from_this_machine_if_the_operator_says_so() -> None:
    assert parsed("auth: {anonymous: [read, deploy]}").auth.anonymous == {"read", "deploy"}


def test_tokens_are_kept_as_places() -> None:
    config = parsed("auth: {tokens: [{name: ci, token: {env: CI_TOKEN}, scopes: [deploy]}], anonymous: []}")
    assert config.auth.tokens[0].token == Secret(env="CI_TOKEN")
    assert config.auth.tokens[0].scopes == {"deploy"}
    assert config.auth.anonymous == frozenset()


def test_hosts_are_named_without_regard_to_case() -> None:
    assert parsed("auth: {allowed_hosts: [Rollbackd.Example.com]}").auth.allowed_hosts == {"rollbackd.example.com"}


def test_anchors_and_merges_save_repetition() -> None:
    config = parsed("""
services:
  a: &base
    probe: http://a
    bake: 2h
  b:
    <<: *base
    probe: http://b
""")
    assert config.policy_for("b").bake == 7200
    assert config.services["b"].streams[0].settings == UrlSettings(url="http://b")


def test_keys_are_text_as_written() -> None:
    """YAML takes `on` for true and 42 for a number, but a service may be called so."""
    assert list(parsed("services: {on: {}, 42: {}, no: {}}").services) == ["on", "42", "no"]


def test_text_that_yaml_takes_for_something_else_stays_text() -> None:
    service = parsed("services: {a: {target: {release_dir: {path: /a, restart: 22:22}}}}").services["a"]
    assert service.target is not None
    assert service.target.settings == DirSettings(path=Path("/a"), restart="22:22")


def test_freeze_windows_are_moments() -> None:
    policy = parsed("defaults: {freeze: [{start: 2026-12-24T00:00:00Z, end: '2026-12-27T00:00:00+01:00'}]}").policy_for(
        ""
    )
    assert [policy.freeze[0].start.isoformat(), policy.freeze[0].end.isoformat()] == [
        "2026-12-24T00:00:00+00:00",
        "2026-12-27T00:00:00+01:00",
    ]


def test_thousands_of_services_are_read_in_a_moment() -> None:
    text = "services:\n" + "".join(f"  s{n}: {{probe: 'http://{n}', depends_on: [s0]}}\n" for n in range(1, 2000))
    assert len(parsed(text + "  s0: {}\n").services) == 2000
