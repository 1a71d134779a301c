"""Our own log: one shape for everything, plain and quick tracebacks, no secrets, and no fault of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import logging, sys, time, warnings
import structlog
from rollbackd.telemetry import configure_logs

configure_logs(sys.argv[1], sys.argv[2])
log = structlog.get_logger("test")

def login(password):
    raise ValueError("refused")

began = time.process_time()
try:
    login("hunter2")
except ValueError:
    log.exception("it_crashed", service="shop")
took = time.process_time() - began
log.debug("small_talk")
logging.getLogger("asyncio").error("Task was %s", "destroyed")
warnings.warn("a coroutine was never awaited", RuntimeWarning)
log.info("last", took=took)
"""


def logged(fmt: str, level: str, program: str = PROGRAM) -> list[str]:
    """The lines on standard error; nothing may be on standard output."""
    ran = subprocess.run(
        [sys.executable, "-c", program, fmt, level], capture_output=True, text=True, check=True, timeout=30
    )
    assert ran.stdout == ""
    return ran.stderr.splitlines()


def test_every_line_is_one_json_object_whoever_logged_it() -> None:
    lines = [json.loads(line) for line in logged("json", "info")]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("it_crashed", "error"),
        ("library_said", "error"),
        ("library_said", "warning"),
        ("last", "info"),
    ]
    assert (lines[1]["library"], lines[1]["message"]) == ("asyncio", "Task was destroyed")
    assert "never awaited" in lines[2]["message"]
    assert all(line["timestamp"].endswith("Z") for line in lines)


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_a_traceback_is_plain_and_shows_no_local_variables(fmt: str) -> None:
    text = "\n".join(logged(fmt, "info"))
    assert "ValueError: refused" in text
    assert "in login" in text
    assert "hunter2" not in text


def test_a_traceback_takes_no_time_worth_speaking_of() -> None:
    """Of the processor, and in one of some tries, since a busy processor is slower."""
    assert any(json.loads(logged("json", "info")[-1])["took"] < 0.1 for _ in range(5))


def test_what_is_less_grave_than_asked_for_is_left_out() -> None:
    assert any("small_talk" in line for line in logged("json", "debug"))
    assert len(logged("json", "error")) == 2


def test_a_log_that_cannot_be_written_is_no_reason_to_fail() -> None:
    """Standard error is closed, or on a disk that is full."""
    program = """
import os, sys
import structlog
from rollbackd.telemetry import configure_logs
configure_logs("json", "info")
full = os.open("/dev/full", os.O_WRONLY)
kept = os.dup(2)
os.dup2(full, 2)
structlog.get_logger("test").error("into_the_void")
os.dup2(kept, 2)
structlog.get_logger("test").error("back_again")
"""
    assert [json.loads(line)["event"] for line in logged("json", "info", program)] == ["back_again"]


def test_what_a_library_repeats_is_left_out_but_counted() -> None:
    """Out of descriptors, asyncio says so for every connection that it cannot take: megabytes within seconds."""
    program = """
import logging, sys
from rollbackd.telemetry import configure_logs
configure_logs("json", "info")
library = logging.getLogger("asyncio")
for number in range(1000):
    library.error("out of %s", "system resource")
library.error("something else")
record = logging.LogRecord("asyncio", logging.ERROR, "", 0, "out of %s", ("system resource",), None)
record.created += 61
library.handle(record)
"""
    lines = [json.loads(line) for line in logged("json", "info", program)]
    assert [line["message"] for line in lines] == ["out of system resource"] * 5 + [
        "something else",
        "out of system resource",
    ]
    assert [line.get("left_out") for line in lines] == [None] * 6 + [995]


def test_nothing_that_is_logged_steers_a_terminal() -> None:
    program = """
import structlog
from rollbackd.telemetry import configure_logs
configure_logs("console", "info")
log = structlog.get_logger("test")
steering = chr(27) + "[2J" + chr(0x9B) + "31m" + chr(13)
log.warning("seen", version=steering, versions=[steering], **{"key" + steering: 1})
try:
    raise ValueError(steering)
except ValueError:
    log.exception("it_crashed")
"""
    text = "\n".join(logged("console", "info", program))
    assert "seen" in text
    assert "ValueError" in text
    assert not {sign for sign in text if not sign.isprintable() and sign != "\n"}
