"""Following containers of a real Docker engine; and engines that misbehave."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest
from pydantic import ValidationError

from rollbackd.docker.containers import OCI_VERSION
from rollbackd.model import Log
from rollbackd.sources.base import Source, SourceContext
from rollbackd.sources.docker_logs import ADAPTER, DockerLogsConfig
from rollbackd.sources.docker_session import TICK_S
from tests.support.clock import ManualClock
from tests.support.docker import PROGRAMS, DockerEngine, OwnEngine
from tests.support.engine import FakeEngine
from tests.support.live import ReservedPort
from tests.support.nobody import as_nobody
from tests.support.servers import Run, running
from tests.support.sink import RecordingSink
from tests.support.waiting import eventually, eventually_async

HOLD = "trap exit TERM; while true; do usleep 20000; done"
"""Keeps a container up, and lets it be stopped at once."""


@dataclass
class Shop:
    """Containers of a service of its own on a real engine; all are removed in the end."""

    engine: DockerEngine
    image: str
    started: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)

    def release(self, version: str, *changes: str) -> str:
        """Make an image of that tag; its id."""
        self.images.append(self.engine.image(f"{self.image}:{version}", changes=changes))
        return self.images[-1]

    def __enter__(self) -> Self:
        self.release("v1")
        return self

    def __exit__(self, *_error: object) -> None:
        self.engine.remove(*self.started)
        if self.engine.answers:
            self.engine.docker("rmi", "--force", *self.images)

    def start(self, version: str, script: str, *options: str) -> str:
        self.started.append(self.engine.script(f"{self.image}:{version}", script, *options))
        return self.started[-1]

    def say(self, container: str, text: str) -> None:
        """Let a container that holds print a line, as its main process."""
        self.engine.docker("exec", container, "/bin/sh", "-c", f"echo '{text}' > /proc/1/fd/1")


@pytest.fixture
def shop(engine: DockerEngine, request: pytest.FixtureRequest) -> Iterator[Shop]:
    name = "".join(sign for sign in request.node.name if sign.isalnum())[-40:]
    with Shop(engine, f"rollbackd-test/{name}") as one:
        yield one


def following(clock: ManualClock, state: Path | None = None, **settings: object) -> Source:
    return ADAPTER.build(DockerLogsConfig.model_validate(settings), SourceContext("shop", clock, state))


def told(sink: RecordingSink) -> list[tuple[str | None, str, str]]:
    return [(event.version, event.level, event.message) for event in sink.of(Log)]


def messages(sink: RecordingSink) -> list[str]:
    return [event.message for event in sink.of(Log)]


@dataclass
class Followed:
    """A source that runs, and what it told."""

    run: Run
    sink: RecordingSink

    async def until(self, *wanted: str) -> None:
        """Let time pass until these messages were told."""

        async def passed() -> bool:
            await self.run.after(TICK_S)
            return set(wanted) <= set(messages(self.sink))

        await self._eventually(passed)

    async def state(self, beginning: str) -> None:
        """Let time pass until the state begins so."""

        async def passed() -> bool:
            await self.run.after(TICK_S)
            return self.sink.state.startswith(beginning)

        await self._eventually(passed)

    async def _eventually(self, passed: Callable[[], Awaitable[bool]]) -> None:
        try:
            await eventually_async(passed, within=15)
        except AssertionError:
            raise AssertionError((self.sink.history, told(self.sink), self.sink.drops)) from None


@asynccontextmanager
async def followed(shop: Shop, state: Path | None = None, **settings: object) -> AsyncIterator[Followed]:
    clock = ManualClock(time.time())
    chosen = settings or {"image": shop.image}
    async with running(following(clock, state, **{"host": shop.engine.host, **chosen}), clock) as (run, sink):
        await eventually(lambda: sink.state)
        yield Followed(run, sink)


@pytest.mark.needs(*PROGRAMS)
class TestARealEngine:
    async def test_what_runs_is_followed_from_now_on_and_what_starts_later_from_its_beginning(self, shop: Shop) -> None:
        old = shop.start("v1", f"echo old; {HOLD}")
        shop.release("v2")
        shop.start("v1", "echo from another image", "--label", "a=b")
        async with followed(shop) as one:
            shop.say(old, "ERROR new")
            shop.start("v2", f"echo plain; echo oops >&2; {HOLD}")
            await one.until("ERROR new", "plain", "oops")
        assert sorted(told(one.sink), key=str) == [
            ("v1", "error", "ERROR new"),
            ("v2", "info", "oops"),
            ("v2", "info", "plain"),
        ]
        assert (one.sink.history, one.sink.drops, one.sink.invalid()) == (["up"], {}, [])

    async def test_a_container_that_restarts_repeats_nothing(self, shop: Shop) -> None:
        async with followed(shop) as one:
            script = 'touch /tmp/n; echo "run $(cat /tmp/n)"; echo -n x >> /tmp/n; exit 1'
            container = shop.start("v1", script, "--restart=on-failure:3")
            await one.until("run xxx")
            shop.engine.docker("start", container)
            await one.until("run xxxx")
        assert messages(one.sink) == ["run ", "run x", "run xx", "run xxx", "run xxxx"]

    async def test_traces_of_both_streams_are_folded_apart(self, shop: Shop) -> None:
        script = "for n in 1 2 3; do echo ' at out' ; echo ' at err' >&2; done"
        async with followed(shop) as one:
            shop.start("v1", f"echo 'ERROR out'; echo 'ERROR err' >&2; {script}; {HOLD}")
            await one.until("ERROR out\n at out\n at out\n at out", "ERROR err\n at err\n at err\n at err")
        assert len(one.sink.events) == 2

    async def test_lines_longer_than_the_engines_pieces_are_one(self, shop: Shop) -> None:
        script = "head -c 40000 /dev/zero | tr '\\0' x; echo; head -c 70000 /dev/zero | tr '\\0' y; echo; echo end"
        async with followed(shop) as one:
            shop.start("v1", script)
            await one.until("end")
        assert messages(one.sink) == ["x" * 40000, "y" * 65536, "end"]
        assert one.sink.drops == {"line_too_long": 1}

    async def test_a_terminal_is_read_raw(self, shop: Shop) -> None:
        async with followed(shop) as one:
            script = "echo one; head -c 20000 /dev/zero | tr '\\0' x; echo; echo two >&2"
            shop.start("v1", f"{script}; {HOLD}", "--tty")
            await one.until("two")
        assert messages(one.sink) == ["one", "x" * 20000, "two"]

    async def test_a_restart_of_the_source_repeats_nothing_and_loses_nothing(self, shop: Shop, tmp_path: Path) -> None:
        """Nor what containers said, and began and ended with, in between."""
        state = tmp_path / "state"
        shop.start("v1", "echo before we came", "--label", "a=b")
        container = shop.start("v1", HOLD)
        async with followed(shop, state) as one:
            shop.say(container, "first")
            await one.until("first")
            shop.say(container, "ERROR open")
        shop.say(container, " at its trace")
        shop.start("v1", "echo short life")
        shop.engine.docker("restart", "--time", "1", container)
        async with followed(shop, state) as two:
            shop.say(container, "after")
            await two.until("after", "short life")
        told = messages(one.sink) + messages(two.sink)
        assert sorted(told) == ["ERROR open\n at its trace", "after", "first", "short life"]

    async def test_labels_names_and_services_choose(self, shop: Shop) -> None:
        compose = ("--label", "com.docker.compose.project=p", "--label", "com.docker.compose.service=s")
        script = f"echo $HOSTNAME; {HOLD}"
        async with (
            followed(shop, host=shop.engine.host, compose_project="p", compose_service="s") as by_service,
            followed(shop, host=shop.engine.host, labels={"team": "a"}) as by_label,
            followed(shop, host=shop.engine.host, swarm_service="web", image=shop.image) as by_swarm,
            followed(shop, host=shop.engine.host, name="rollbackd-test-named") as by_name,
        ):
            shop.start("v1", script, "--hostname", "service", *compose)
            shop.start("v1", script, "--hostname", "half", *compose[:2])
            shop.start("v1", script, "--hostname", "label", "--label", "team=a")
            shop.start("v1", script, "--hostname", "swarm", "--label", "com.docker.swarm.service.name=web")
            shop.started.append(
                shop.engine.script(f"{shop.image}:v1", script, "--hostname", "name", name="rollbackd-test-named")
            )
            await by_service.until("service")
            await by_label.until("label")
            await by_swarm.until("swarm")
            await by_name.until("name")
        found = [messages(one.sink) for one in (by_service, by_label, by_swarm, by_name)]
        assert found == [["service"], ["label"], ["swarm"], ["name"]]

    async def test_a_tag_that_says_nothing_gives_way_to_what_does(self, shop: Shop) -> None:
        known = shop.release("latest", f"LABEL {OCI_VERSION}=1.2.3")
        async with (
            followed(shop) as by_default,
            followed(shop, image=shop.image, version=["label", "tag"]) as by_label,
            followed(shop, image=shop.image, version=["tag"]) as by_tag,
        ):
            shop.start("latest", f"echo hello; {HOLD}")
            for one in (by_default, by_label, by_tag):
                await one.until("hello")
        assert [told(one.sink)[0][0] for one in (by_default, by_label, by_tag)] == [known, "1.2.3", None]

    async def test_an_image_whose_tag_has_moved_on_is_still_its_services(self, shop: Shop) -> None:
        old = shop.start("v1", HOLD)
        shop.release("v1", "LABEL new=1")
        async with followed(shop) as one:
            shop.say(old, "hello")
            await one.until("hello")
        assert told(one.sink) == [("v1", "info", "hello")]

    async def test_a_log_driver_that_cannot_be_read_is_said_and_harms_no_other(self, shop: Shop) -> None:
        async with followed(shop) as one:
            mute = shop.start("v1", HOLD, "--log-driver", "none")
            await one.state("down: ")
            assert one.sink.state == (
                f"down: the output of container {mute} cannot be read: {shop.engine.host.removeprefix('unix://')} "
                "answered 501: configured logging driver does not support reading"
            )
            shop.start("v1", f"echo hello; {HOLD}")
            await one.until("hello")
            await one.state("up")
            assert one.sink.drops == {"unreadable_log_driver": 1}

    async def test_an_engine_that_restarts_is_down_and_up_and_nothing_is_lost_or_repeated(self, tmp_path: Path) -> None:
        """The containers go on without it (`live-restore`)."""
        folder = Path(f"/tmp/rollbackd-test-{tmp_path.name}")
        with OwnEngine(folder, "--live-restore") as own, Shop(own, "shop") as shop:
            script = "n=0; while true; do n=$((n + 1)); echo line $n; usleep 50000; done"
            async with followed(shop) as one:
                shop.start("v1", script)
                await one.until("line 5")
                own.stop()
                await one.state("down: ")
                own.start()
                await one.state("up")
                last = len(messages(one.sink))
                await one.until(f"line {last + 20}")
            assert messages(one.sink) == [f"line {n + 1}" for n in range(len(one.sink.events))]
            assert one.sink.drops == {}
            assert [state.partition(":")[0] for state in one.sink.history] == ["up", "down", "up"]

    @pytest.mark.needs("openssl")
    async def test_an_engine_on_tcp_is_trusted_by_its_certificate_alone(self, tmp_path: Path) -> None:
        make_certificates(tmp_path)
        port = ReservedPort()
        host = f"tcp://127.0.0.1:{port.number}"
        files = {f"{name}_file": str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key")}
        keys = (f"--tlscacert={tmp_path}/ca.pem", f"--tlscert={tmp_path}/cert.pem", f"--tlskey={tmp_path}/key.pem")
        options = ("--host", host, "--tlsverify", *keys)
        with OwnEngine(Path(f"/tmp/rollbackd-test-{tmp_path.name}"), *options) as own, Shop(own, "shop") as shop:
            async with followed(shop, host=host, image="shop", tls=files) as one:
                shop.start("v1", f"echo hello; {HOLD}")
                await one.until("hello")
            async with followed(shop, host=host, image="shop", tls={**files, "ca_file": "/etc/hostname"}) as two:
                assert two.sink.state == "down: the certificates or the key named under `tls` cannot be read"
            other = tmp_path / "other"
            other.mkdir()
            make_certificates(other)
            async with followed(shop, host=host, image="shop", tls={"ca_file": str(other / "ca.pem")}) as three:
                assert three.sink.state == f"down: {host}: the TLS handshake failed, see `tls`"


def make_certificates(folder: Path) -> None:
    """One certificate that is its own authority, for 127.0.0.1, good for server and client."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    shutil.copy(folder / "cert.pem", folder / "ca.pem")


@asynccontextmanager
async def asking(path: Path, state: Path | None = None, **settings: object) -> AsyncIterator[Followed]:
    clock = ManualClock()
    source = following(clock, state, host=f"unix://{path}", image="shop", **settings)
    async with running(source, clock) as (run, sink):
        await eventually(lambda: sink.state)
        yield Followed(run, sink)


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeEngine]:
    one = FakeEngine(tmp_path)
    await one.start()
    yield one
    await one.stop()


class TestAnEngineOfOurMaking:
    async def test_where_there_is_none_the_cure_is_said(self, tmp_path: Path) -> None:
        async with asking(tmp_path / "docker.sock") as one:
            assert one.sink.state == f"down: no engine listens on {tmp_path}/docker.sock: is Docker running?"

    async def test_who_may_not_open_the_socket_is_told_the_cure(self, fake: FakeEngine) -> None:
        fake.path.parent.chmod(0o755)
        fake.path.chmod(0o600)
        with as_nobody():
            async with asking(fake.path) as one:
                assert one.sink.state.startswith(
                    f"down: {fake.path} may not be opened: add the user that rollbackd runs"
                )

    async def test_a_proxy_that_refuses_is_named_with_what_it_must_let_pass(self, fake: FakeEngine) -> None:
        fake.answers["/containers/json"] = (403, b"<html>Forbidden</html>")
        async with asking(fake.path) as one:
            cure = "a proxy before the engine must let GET /containers/json pass"
            assert one.sink.state == f"down: {fake.path} answered 403: Forbidden; {cure}"

    @pytest.mark.parametrize(
        "body", [b"", b"nonsense", b"{}", b"[1]", b"[" * 5000, b'[{"Id": 5}]', b"\xff", b'[{"Id": "\xff"}]']
    )
    async def test_answers_that_are_none_are_a_gap(self, fake: FakeEngine, body: bytes) -> None:
        fake.answers["/containers/json"] = (200, body)
        async with asking(fake.path) as one:
            assert "is not what an engine answers" in one.sink.state

    async def test_events_that_are_none_are_counted_and_cost_no_other(self, fake: FakeEngine) -> None:
        async with asking(fake.path) as one:
            for hostile in (b"nonsense\n", b'{"Action":"\xff"}\n', b"[" * 5000 + b"\n"):
                await fake.tell(hostile)
            await eventually(lambda: one.sink.drops["not_an_event"] == 3)
            assert one.sink.state == "up"

    async def test_lines_of_one_stamp_are_neither_lost_nor_repeated(self, fake: FakeEngine, tmp_path: Path) -> None:
        state = tmp_path / "state"
        async with asking(fake.path, state) as one:
            for number in range(3):
                fake.print(f"ERROR {number}", stamp=5)
            await one.until("ERROR 2")
        for number in range(3, 5):
            fake.print(f"ERROR {number}", stamp=5)
        async with asking(fake.path, state) as two:
            await two.until("ERROR 4")
        assert messages(one.sink) + messages(two.sink) == [f"ERROR {number}" for number in range(5)]

    async def test_a_start_that_crosses_the_news_of_the_stop_is_not_missed(self, fake: FakeEngine) -> None:
        async with asking(fake.path) as one:
            fake.running, fake.starts_meanwhile = False, True
            fake.print("ERROR as it stops")
            await one.until("ERROR as it stops")
            fake.running = True
            fake.print("ERROR as it runs again")
            await one.until("ERROR as it runs again")

    async def test_output_that_is_not_in_frames_is_said_and_tried_again(self, fake: FakeEngine) -> None:
        async with asking(fake.path) as one:
            fake.send(b"no frame at all")
            await one.state("down: the output of container shop cannot be read")
            fake.print("ERROR in a frame")
            await one.until("ERROR in a frame")
            assert one.sink.state == "up"


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({}, "say whose logs"),
        ({"image": "shop:v1"}, "without its tag"),
        ({"image": "shop", "host": "docker.sock"}, "no address of an engine"),
        ({"image": "shop", "host": "tcp://host"}, "no address of an engine"),
        ({"image": "shop", "host": "ssh://host:22"}, "no address of an engine"),
        ({"image": "shop", "tls": {"ca_file": "/ca"}}, "a unix socket has none"),
        ({"image": "shop", "version": []}, "at least 1 item"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        DockerLogsConfig.model_validate(settings)
