"""Every fault of a file is told in one run, with its line, its key and what would be right."""

from __future__ import annotations

import pytest

from rollbackd.config.faults import Fault
from tests.unit.config.catalog import SIX_FAULTS, fault, faults, parsed


def test_six_different_faults_are_six_lines() -> None:
    found = faults(SIX_FAULTS)
    assert [str(one) for one in found] == [
        "file.yaml:1: mode: expected act or shadow; did you mean `act`?",
        "file.yaml:2: notfy: unknown key; did you mean `notify`?",
        "file.yaml:4: auth.tokens[0].token: a secret is written as the place where it is kept, "
        "{env: NAME} or {file: PATH}, never as its value",
        "file.yaml:7: services.checkout.target.relase_dir: there is no such target; did you mean `release_dir`?",
        "file.yaml:8: services.checkout.bake: a duration carries its unit: write 30s, 5m or 1h30m",
        "file.yaml:9: services.checkout.depends_on[0]: there is no service `sarch` in this file; "
        "did you mean `search`?",
    ]


def test_a_fault_reads_as_one_line() -> None:
    assert str(Fault(file="f", line=3, where="a.b", message="wrong")) == "f:3: a.b: wrong"
    assert str(Fault(file="f", line=3, where="", message="wrong")) == "f:3: wrong"
    assert str(Fault(file="f", line=0, where="", message="wrong")) == "f: wrong"


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        # keys
        ("listne: 1", "listne", "unknown key; did you mean `listen`?"),
        ("log: {xyzzy: 1}", "log.xyzzy", "unknown key; known here: format, level"),
        ("services: {a: {rules: {alrt: off}}}", "services.a.rules.alrt", "unknown key; did you mean `alert`?"),
        ("bake: 1h", "bake", "it belongs to a service, or to `defaults`"),
        ("target: {}", "target", "it belongs to a service under `services`"),
        ("defaults: {probe: http://a}", "defaults.probe", "belongs to each service by itself"),
        ("services: {a b: {}}", "services.a b", "a service's name is letters"),
        ("services: {'': {}}", "services.", "a service's name is letters"),
        # values
        ("mode: fight", "mode", "expected act or shadow"),
        ("mode: 1", "mode", "expected act or shadow; found a number"),
        ("mode:", "mode", "expected act or shadow; found nothing"),
        ("data_dir: 5", "data_dir", "expected text; found a number: put it in quotes"),
        ("services: 5", "services", "expected a mapping; found a number"),
        ("services: {a: 5}", "services.a", "expected a mapping of "),
        ("services: [a]", "services", "expected a mapping; found a list"),
        ("log: json", "log", "expected a mapping of format, level; found text"),
        ("auth: {tokens: {}}", "auth.tokens", "expected a list, as in [one, two]; found a mapping"),
        ("auth: {tokens: [ci]}", "auth.tokens[0]", "expected a mapping of name, token, scopes; found text"),
        ("auth: {anonymous: read}", "auth.anonymous", "expected a list"),
        ("auth: {allowed_hosts: ['https://a']}", "auth.allowed_hosts[0]", "without scheme and port"),
        ("fleet: {rollbacks_per_hour: many}", "fleet.rollbacks_per_hour", "expected a whole number; found text"),
        ("fleet: {rollbacks_per_hour: 1.5}", "fleet.rollbacks_per_hour", "expected a whole number; found another"),
        ("fleet: {rollbacks_per_hour: -1}", "fleet.rollbacks_per_hour", "must be at least 0"),
        ("fleet: {rollbacks_per_hour: off}", "fleet.rollbacks_per_hour", "expected a number; found false"),
        ("defaults: {alpha: 0.7}", "defaults.alpha", "must be at most 0.5"),
        ("defaults: {alpha: 0}", "defaults.alpha", "must be more than 0"),
        ("defaults: {alpha: .nan}", "defaults.alpha", "finite"),
        ("defaults: {rules: {alert: }}", "defaults.rules.alert", "write `off`, `on` or settings"),
        ("defaults: {rules: {error_ratio: {floor: 2}}}", "defaults.rules.error_ratio.floor", "at most 1"),
        (
            "defaults: {freeze: [{start: 2026-01-01, end: 2026-01-02T00:00:00Z}]}",
            "defaults.freeze[0].start",
            "a moment with its UTC offset, as in 2026-12-24T00:00:00Z",
        ),
        (
            "defaults: {freeze: [{start: 2026-01-02T00:00:00Z, end: 2026-01-01T00:00:00Z}]}",
            "defaults.freeze[0]",
            "`end` must be after `start`",
        ),
        ("listen: 9797", "listen", "write host:port"),
        ("listen: localhost", "listen", "write host:port"),
        ("listen: ::1:80", "listen", 'or "[::1]:9797"'),
        ('listen: "[nonsense]:80"', "listen", "write host:port"),
        ("listen: localhost:65536", "listen", "write host:port"),
        ("listen: [1]", "listen", "write host:port"),
        # adapters
        ("ledger: sqlite", "ledger", "expected a ledger as in {sqlite: ...}; found text"),
        ("ledger: {sqlight: {}}", "ledger.sqlight", "did you mean `sqlite`?"),
        ("ledger: {postgres: {}}", "ledger.postgres", "install rollbackd[postgres]"),
        ("ledger: {sqlite: {}, postgres: {}}", "ledger", "found 2: sqlite, postgres"),
        ("ledger: {sqlite: 7}", "ledger.sqlite", "expected a mapping; found a number"),
        ("services: {a: {target: }}", "services.a.target", "found nothing; known: command, grumpy, release_dir"),
        ("services: {a: {target: {}}}", "services.a.target", "found none; known: command, grumpy, release_dir"),
        (
            "services: {a: {target: {name: x, release_dir: /a}}}",
            "services.a.target",
            "found 2: name, release_dir",
        ),
        (
            "services: {a: {target: {release_dir: }}}",
            "services.a.target.release_dir.path",
            "required, but missing",
        ),
        (
            "services: {a: {target: {release_dir: {pth: /a}}}}",
            "services.a.target.release_dir.pth",
            "unknown key; did you mean `path`?",
        ),
        ("services: {a: {target: {release_dir: [/a]}}}", "services.a.target.release_dir", "expected its `path`"),
        ("services: {a: {target: {grumpy: {mood: good}}}}", "services.a.target.grumpy", "never in the mood"),
        (
            "services: {a: {metrics: 8080}}",
            "services.a.metrics",
            "expected its `url` as text, or its settings as in {url: ...}; found a number",
        ),
        (
            "services: {a: {sources: [{scrape: [http://a, http://b]}]}}",
            "services.a.sources[0].scrape",
            "expected its `url` as text, or its settings as in {url: ...}; found a list: "
            "write an entry of its own for each",
        ),
        (
            "services: {a: {sources: [{log_file: [/a, /b]}]}}",
            "services.a.sources[0].log_file",
            "expected its `path` as text, or its settings as in {path: ...}; found a list: write {path: [...]}",
        ),
        (
            "services: {a: {target: {release_dir: [/a, /b]}}}",
            "services.a.target.release_dir",
            "expected its `path` as text, or its settings as in {path: ...}; found a list: there can be one only",
        ),
        ("services: {a: {metrics: nowhere}}", "services.a.metrics", "no URL"),
        ("services: {a: {metrics: [http://a, nowhere]}}", "services.a.metrics[1]", "no URL"),
        ("services: {a: {metrics: {url: nowhere}}}", "services.a.metrics.url", "no URL"),
        ("services: {a: {metrics: {interval: 5s}}}", "services.a.metrics.url", "required, but missing"),
        ("services: {a: {metrics: {url: 'http://a', series: yes}}}", "services.a.metrics.series", "found true"),
        ("services: {a: {sources: {scrape: http://a}}}", "services.a.sources", "expected a list of sources"),
        (
            "services: {a: {sources: [{scrape: http://a, probe: http://a}]}}",
            "services.a.sources[0]",
            "found 2: scrape, probe, write each as an entry of its own",
        ),
        ("notify: [{name: x}]", "notify[0]", "found none; known: log, webhook"),
        ("notify: [{name: 5, log: }]", "notify[0].name", "expected text"),
        ("notify: [{name: x, log: }, {name: x, log: }]", "notify[1].name", "choose another one"),
        ("intake: [alertmanager]", "intake", "expected a mapping of intakes by name; found a list"),
        ("intake: {alertmanger: off}", "intake.alertmanger", "did you mean `alertmanager`?"),
        ("intake: {alertmanager: {label: [a]}}", "intake.alertmanager.label", "did you mean `labels`?"),
        # contradictions
        ("defaults: {bake: 1m}", "defaults.bake", "`bake` (1m) must be longer than `warmup` (1m)"),
        ("services: {a: {warmup: 2h}}", "services.a.warmup", "`bake` (1h) must be longer than `warmup` (2h)"),
        ("services: {a: {verify_for: 1h}}", "services.a.verify_for", "`verify_within` (15m) must be longer"),
        ("services: {a: {depends_on: [a]}}", "services.a.depends_on", "cannot depend on itself"),
        ("services: {a: {depends_on: [b]}}", "services.a.depends_on[0]", "there is no service `b`"),
        ("defaults: {depends_on: [b]}", "defaults.depends_on[0]", "there is no service `b`"),
        (
            "services: {a: {target: {release_dir: /x}}, b: {target: {release_dir: {path: /x, restart: r}}}}",
            "services.b.target",
            "the very target of `a`",
        ),
        (
            "auth: {tokens: [{name: engine, token: {env: A}, scopes: [read]}]}",
            "auth.tokens[0].name",
            "choose another name",
        ),
        (
            "auth: {tokens: [{name: x, token: {env: A}, scopes: [read]}, {name: x, token: {env: B}, scopes: [read]}]}",
            "auth.tokens[1].name",
            "another token has this name",
        ),
        ("auth: {tokens: [{name: x, token: {env: A}, scopes: []}]}", "auth.tokens[0].scopes", "at least 1"),
        (
            "listen: 0.0.0.0:9797\nauth: {anonymous: [read, operate, deploy]}",
            "auth.anonymous",
            "whoever reaches 0.0.0.0:9797 could deploy and operate without a credential",
        ),
    ],
)
def test_a_fault_names_its_place_and_the_cure(text: str, where: str, message: str) -> None:
    found = fault(text)
    assert found.where == where
    assert message in found.message


def test_two_services_may_run_scripts_of_their_own() -> None:
    """Only a target with a place can be the same place."""
    assert len(parsed("services: {a: {target: {command: {run: x}}}, b: {target: {command: {run: x}}}}").services) == 2


def test_faults_come_in_the_order_of_their_lines() -> None:
    found = faults("services:\n  a: {depends_on: [b]}\n  c:\n    bake: 1\nmode: x\nlisten: y\n")
    assert [one.line for one in found] == [2, 4, 5, 6]


def test_a_fault_of_something_missing_is_where_it_should_be() -> None:
    found = fault("services:\n  a:\n    bake: 2h\n    target:\n      release_dir:\n        restart: x\n")
    assert (found.line, found.where) == (5, "services.a.target.release_dir.path")


def test_a_fault_in_a_list_has_the_line_of_its_item() -> None:
    found = fault("notify:\n  - webhook: http://a\n  - webhook:\n      ulr: http://b\n")
    assert (found.line, found.where) == (4, "notify[1].webhook.ulr")


def test_one_fault_hides_no_other() -> None:
    """Contradictions are found in what is left when the wrong values are taken out."""
    found = faults("""\
listen: 0.0.0.0:1
auth: {anonymous: [deploy], tokens: [{name: engine, token: 5, scopes: [read]}]}
defaults: {bakee: 2h, verify_for: 1h}
services:
  a: {depends_on: [a, nope], metrics: 5, bake: 1m}
  b: {freeze: [{start: 2026-01-02T00:00:00Z}]}
""")
    assert {one.where for one in found} == {
        "auth.anonymous",
        "auth.tokens[0].token",
        "defaults.bakee",
        "defaults.verify_for",
        "services.a.depends_on",
        "services.a.depends_on[1]",
        "services.a.metrics",
        "services.a.bake",
        "services.b.freeze[0].end",
    }


def test_a_value_known_to_be_wrong_is_not_found_contradictory_as_well() -> None:
    assert fault("defaults: {bake: 5, warmup: 3h}").where == "defaults.bake"
    assert fault("listen: nonsense\nauth: {anonymous: [deploy]}").where == "listen"
    assert fault("services: {a: {depends_on: [b]}, b: {bake: 5}}").where == "services.b.bake"


def test_what_defaults_contradict_is_told_once_and_not_for_every_service() -> None:
    assert fault("defaults: {bake: 10s}\nservices: {a: {}, b: {cooldown: 1h}}").where == "defaults.bake"


# -- secrets


SECRETS = {
    "a bare value": "token: hunter2",
    "a quoted value": 'token: "hunter2"',
    "under a wrong key": "token: {value: hunter2}",
    "as a key": "token: {hunter2}",
    "in a list": "token: [hunter2]",
    "beside the right key": "token: {env: CI_TOKEN, value: hunter2}",
    "as a variable's name": "token: {env: hunter2+/=}",
    "as an alias": "token: *hunter2",
    "as a tag": "token: !hunter2 x",
    "as an anchor of nothing": "token: &hunter2",
    "unbalanced": "token: {hunter2",
    "with a reserved sign": "token: @hunter2",
    "twice": "token: hunter2\n      token: hunter2",
    "in two places": "token: {env: A, file: /b}",
    "nothing": "token:",
}


@pytest.mark.parametrize("line", SECRETS.values(), ids=list(SECRETS))
def test_a_secret_written_in_the_file_is_refused_and_not_repeated(line: str) -> None:
    found = faults(f"auth:\n  tokens:\n    - name: ci\n      {line}\n      scopes: [read]\n")
    assert found
    for one in found:
        assert "hunter2" not in str(one)
        assert one.line in (4, 5, 6)


def test_what_is_said_of_a_secret_shows_how_to_write_it() -> None:
    text = "auth: {tokens: [{name: ci, token: {evn: CI}, scopes: [read]}, {name: x, scopes: [read]}]}"
    first, second = faults(text)
    assert first.where == "auth.tokens[0].token"
    assert "{env: NAME} or {file: PATH}" in first.message
    assert second.where == "auth.tokens[1].token"
    assert second.message.startswith("required, but missing")


def test_where_text_or_a_secret_will_do_both_are_offered() -> None:
    found = fault("notify: [{webhook: {url: http://a, headers: {X-Key: 5}}}]")
    assert found.where == "notify[0].webhook.headers.X-Key"
    assert found.message == "expected text, or for a secret the place where it is kept, {env: NAME} or {file: PATH}"


def test_a_secret_that_cannot_be_read_is_a_fault_where_it_will_be_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI_TOKEN", raising=False)
    monkeypatch.setenv("HOOK", "http://hook")
    text = """\
auth: {tokens: [{name: ci, token: {env: CI_TOKEN}, scopes: [deploy]}]}
notify:
  - webhook: {url: {env: HOOK}, headers: {X-Key: {file: /not/there}}}
"""
    parsed(text)
    assert [(one.line, one.where, one.message) for one in faults(text, reveal=True)] == [
        (1, "auth.tokens[0].token", "secret: environment variable CI_TOKEN is empty or not set"),
        (3, "notify[0].webhook.headers.X-Key", "secret: cannot read file /not/there: No such file or directory"),
    ]


def test_a_credential_that_can_be_guessed_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "auth: {tokens: [{name: ci, token: {env: CI_TOKEN}, scopes: [deploy]}]}"
    monkeypatch.setenv("CI_TOKEN", "hunter2hunter22")
    parsed(text)
    found = fault(text, reveal=True)
    assert found.where == "auth.tokens[0].token"
    assert "fewer than 16 characters" in found.message
    assert "hunter2" not in found.message
    monkeypatch.setenv("CI_TOKEN", "hunter2hunter2_2")
    parsed(text, reveal=True)


def test_so_is_a_senders_secret_that_can_be_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """\
intake:
  alertmanager:
    secret: {env: HOOK}
    more: {nagios: {secret: {env: HOOK}}}
"""
    monkeypatch.setenv("HOOK", "hunter2")
    assert [(one.line, one.where) for one in faults(text, reveal=True)] == [
        (3, "intake.alertmanager.secret"),
        (4, "intake.alertmanager.more.nagios.secret"),
    ]
    monkeypatch.setenv("HOOK", "hunter2" * 3)
    parsed(text, reveal=True)


def test_two_tokens_with_one_credential_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the one would have the other's scopes, under a name that is not theirs."""
    for name in ("CI_TOKEN", "ON_CALL_TOKEN"):
        monkeypatch.setenv(name, "hunter2" * 3)
    found = fault(
        """\
auth:
  tokens:
    - {name: ci, token: {env: CI_TOKEN}, scopes: [read]}
    - {name: on-call, token: {env: ON_CALL_TOKEN}, scopes: [operate]}
""",
        reveal=True,
    )
    assert (found.line, found.where) == (4, "auth.tokens[1].token")
    assert "the very credential of `ci`" in found.message
    assert "hunter2" not in found.message


def test_a_readable_secret_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_TOKEN", "hunter2" * 3)
    config = parsed("auth: {tokens: [{name: ci, token: {env: CI_TOKEN}, scopes: [deploy]}]}", reveal=True)
    for shown in (repr(config), str(config), repr(config.model_dump())):
        assert "CI_TOKEN" in shown
        assert "hunter2" not in shown
