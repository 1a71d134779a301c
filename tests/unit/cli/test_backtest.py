"""`rollbackd backtest`: what stands in its way, each with its exit code and cure."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from rollbackd.cli.main import main
from rollbackd.ledger.sqlite.ledger import SqliteLedger
from tests.contract.ledgers import change, snapshot
from tests.support.servers import Server, text
from tests.unit.cli.conftest import Terminal

EMPTY = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": []}})
NOBODY = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "rollbackd.yaml"
    path.write_text(f"data_dir: {tmp_path / 'data'}\nservices: {{shop: {{}}, cart: {{}}}}\n")
    return str(path)


@pytest.fixture
def deployments(tmp_path: Path) -> str:
    path = tmp_path / "deployments.csv"
    path.write_text(f"service,version,deployed_at,previous\nshop,v2,{time.time() - 7200},v1\n")
    return str(path)


async def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The command, in a thread: it has an event loop of its own."""
    code = await asyncio.to_thread(main, ["backtest", *arguments])
    return (code, *capsys.readouterr())


def test_a_server_that_is_down_is_exit_code_3(terminal: Terminal, config: str, deployments: str) -> None:
    assert terminal.run("backtest", "-c", config, "--prometheus", NOBODY, "--deployments", deployments) == 3
    assert terminal.err == (
        "rollbackd: http://127.0.0.1:1/api/v1/query: Connection refused: "
        "is --prometheus right, and does the server run?\n"
    )
    assert "kept" not in terminal.out


async def test_a_server_that_fails_is_told_in_its_words(
    capsys: pytest.CaptureFixture[str], config: str, deployments: str
) -> None:
    async with Server(text("the disk is full", status=500)) as server:
        code, out, err = await run(capsys, "-c", config, "--prometheus", server.url(""), "--deployments", deployments)
    assert code == 1
    assert f"{server.url('')} answered 500: the disk is full" in err
    assert out == ""


async def test_no_data_is_its_own_answer(capsys: pytest.CaptureFixture[str], config: str, deployments: str) -> None:
    async with Server(text(EMPTY)) as server:
        given = ("-c", config, "--prometheus", server.url(""), "--deployments", deployments)
        code, out, _ = await run(capsys, *given)
        told = json.loads((await run(capsys, *given, "--format", "json"))[1])
    assert code == 0
    assert 'not judged: the server has nothing of {job="shop"} for that time' in " ".join(out.split())
    assert "0 deployments judged" in out
    assert "1 could not be judged: 1 without any series." in out
    assert told["summary"]["causes"] == {"no_series": 1}
    assert told["judgements"][0]["judged"] == "unjudged"


async def test_deployments_come_from_the_ledger_while_a_daemon_holds_it(
    capsys: pytest.CaptureFixture[str], config: str, tmp_path: Path
) -> None:
    ledger = SqliteLedger(tmp_path / "data" / "ledger.db")
    await ledger.open()
    try:
        await ledger.record([], [change("2.0", "opened", service="shop")], snapshot())
        async with Server(text(EMPTY)) as server:
            given = ("-c", config, "--prometheus", server.url(""), "--since", "3650d", "--format", "json")
            code, out, err = await run(capsys, *given)
            assert (code, err) == (0, "")
            [one] = json.loads(out)["judgements"]
            assert (one["service"], one["version"], one["previous"]) == ("shop", "2.0", "1.0")
            code, _, err = await run(capsys, *given, "--service", "cart")
            assert code == 1
            assert "the ledger holds no such deployment" in err
    finally:
        await ledger.close()


async def test_recordings_are_kept_in_a_folder_of_their_own(
    capsys: pytest.CaptureFixture[str], config: str, deployments: str, tmp_path: Path
) -> None:
    written = Path(config).read_text()  # noqa: ASYNC240  a few bytes
    async with Server(text(EMPTY)) as server:
        given = ("-c", config, "--prometheus", server.url(""), "--deployments", deployments)
        folder = tmp_path / "kept"
        assert (await run(capsys, *given, "--save", str(folder)))[0] == 0
        recording, beside = sorted(folder.iterdir())
        assert beside.name == f"{recording.name}.yaml"
        assert beside.read_text() == written
        code, _, err = await run(capsys, *given, "--save", str(folder))
    assert code == 1
    assert "give --save a new folder" in err


def test_without_a_ledger_the_cure_is_told(terminal: Terminal, config: str, tmp_path: Path) -> None:
    assert terminal.run("backtest", "-c", config, "--prometheus", NOBODY) == 1
    assert "there is no ledger" in terminal.err
    assert "--deployments CSV" in terminal.err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--match", "job=checkout"), "--match: `job=checkout` is no label matcher"),
        (("--service", "shp"), "there is no service `shp`; known: cart, shop"),
        (("--step", "0"), "`0` is no duration"),
        (("--since", "30"), "`30` is no duration"),
        (("--prometheus", "ftp://x"), "--prometheus: this is no HTTP URL"),
        (("--prometheus-token-file", "/no/such/file"), "cannot read the token file"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    terminal: Terminal, config: str, deployments: str, more: tuple[str, ...], words: str
) -> None:
    given = ("-c", config, "--prometheus", NOBODY, "--deployments", deployments)
    assert terminal.run("backtest", *given, *more) == 2
    assert words in terminal.err


def test_faults_of_the_csv_are_exit_code_2(terminal: Terminal, config: str, deployments: str) -> None:
    Path(deployments).write_text("service,version,deployed_at\nshop,,1\nshop,v1,yesterday\n")
    assert terminal.run("backtest", "-c", config, "--prometheus", NOBODY, "--deployments", deployments) == 2
    assert f"{deployments}:2: version: empty" in terminal.err
    assert f"{deployments}:3: deployed_at: `yesterday`" in terminal.err
