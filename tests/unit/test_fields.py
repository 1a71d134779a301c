"""What operators write: durations, ratios, sizes, switches and secrets."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rollbackd.errors import ConfigError
from rollbackd.fields import (
    AsWritten,
    Duration,
    Model,
    Moment,
    Ratio,
    Secret,
    Size,
    Switch,
    duration_text,
    ratio_text,
    size_text,
)


class Alarm(Model):
    lasting: Duration = 90.0


class Sample(Model):
    duration: Duration = 0.0
    ratio: Ratio = 0.0
    size: Size = 0
    alarm: Annotated[Alarm | None, Switch()] = Alarm()
    token: Secret | None = None
    moment: Moment | None = None


def read(**values: object) -> Sample:
    return Sample.model_validate(values, context=AsWritten())


def complaint(**values: object) -> str:
    with pytest.raises(ValidationError) as caught:
        read(**values)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h30m", 5400), ("1h 30m", 5400), ("250ms", 0.25), ("1.5h", 5400), ("2d", 172800)],
)
def test_a_duration_is_a_sum_of_numbers_with_units(text: str, seconds: float) -> None:
    assert read(duration=text).duration == seconds


@pytest.mark.parametrize("text", ["", "30", "s", "30 sec", "-5s", "1h30", "1e3s", "½h", "٣s", "9" * 400 + "d"])
def test_other_text_is_no_duration(text: str) -> None:
    assert complaint(duration=text)


def test_an_operators_number_is_no_duration_for_it_lacks_its_unit() -> None:
    assert "write 30s, 5m or 1h30m" in complaint(duration=30)
    assert "write 30s, 5m or 1h30m" in complaint(duration=True)


def test_nothing_needs_no_unit() -> None:
    assert read(duration=0).duration == 0


def test_code_may_pass_seconds() -> None:
    assert Sample(duration=30).duration == 30


@pytest.mark.parametrize(("value", "share"), [("1%", 0.01), ("0.1 %", 0.001), (0.5, 0.5), (1, 1), (0, 0)])
def test_a_ratio_is_a_percentage_or_a_share(value: object, share: float) -> None:
    assert read(ratio=value).ratio == pytest.approx(share)


@pytest.mark.parametrize("value", ["1", "x%", "101%", "-1%", "nan%", 1.5, -0.1, True, float("nan"), None, []])
def test_other_things_are_no_ratio(value: object) -> None:
    assert complaint(ratio=value)


@pytest.mark.parametrize(
    ("value", "count"), [("64MiB", 67108864), ("10MB", 10_000_000), ("1 KiB", 1024), ("7", 7), ("7B", 7), (7, 7)]
)
def test_a_size_is_a_number_of_bytes_with_or_without_unit(value: object, count: int) -> None:
    assert read(size=value).size == count


@pytest.mark.parametrize("value", ["MiB", "1.5MB", "-1", "1 TB", "1mib", True, 1.5, -1, None, "9" * 5000])
def test_other_things_are_no_size(value: object) -> None:
    assert complaint(size=value)


@given(st.integers(min_value=0, max_value=10**12))
def test_a_duration_in_words_reads_back_as_itself(milliseconds: int) -> None:
    text = duration_text(milliseconds / 1000)
    assert read(duration=text).duration == pytest.approx(milliseconds / 1000)


@given(st.integers(min_value=0, max_value=10**15))
def test_a_size_in_words_reads_back_as_itself(count: int) -> None:
    assert read(size=size_text(count)).size == count


def test_values_in_words_are_short() -> None:
    assert [duration_text(s) for s in (0, 0.25, 90, 3600, 5400)] == ["0s", "250ms", "1m30s", "1h", "1h30m"]
    assert [ratio_text(r) for r in (0.001, 0.5, 1 / 3)] == ["0.1%", "50%", "33.33333333%"]
    assert [size_text(n) for n in (0, 1000, 1024, 10 * 1024**2)] == ["0", "1000", "1KiB", "10MiB"]


@pytest.mark.parametrize("value", [False, "off"])
def test_a_switch_turns_off(value: object) -> None:
    assert read(alarm=value).alarm is None


@pytest.mark.parametrize("value", [True, "on", {}])
def test_a_switch_turns_on_with_its_defaults(value: object) -> None:
    assert read(alarm=value).alarm == Alarm()


def test_a_switch_takes_settings() -> None:
    assert read(alarm={"lasting": "2m"}).alarm == Alarm(lasting=120)


def test_an_empty_switch_is_not_taken_for_off() -> None:
    """`alert:` with everything under it commented out must not silently switch the rule off."""
    assert "write `off`, `on` or settings" in complaint(alarm=None)
    assert Sample(alarm=None).alarm is None, "code means it"


def test_a_secret_names_exactly_one_place() -> None:
    assert "names one place" in complaint(token={})
    assert "names one place" in complaint(token={"env": "A", "file": "/b"})


def test_a_value_pasted_where_a_variables_name_belongs_is_refused_unseen() -> None:
    message = complaint(token={"env": "s3cr3t/+value="})
    assert "name of an environment variable" in message
    assert "s3cr3t" not in message


def test_a_secret_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_TOKEN", " hunter2\n")
    assert Secret(env="SAMPLE_TOKEN").reveal() == "hunter2"


def test_a_secret_file_is_read_anew_each_time(tmp_path: Path) -> None:
    place = tmp_path / "token"
    place.write_text("old\n")
    secret = Secret(file=place)
    assert secret.reveal() == "old"
    place.write_text("new\n")
    assert secret.reveal() == "new"


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_a_secret_that_cannot_be_read_says_where_it_should_be(tmp_path: Path, content: bytes | None) -> None:
    place = tmp_path / "token"
    if content is not None:
        place.write_bytes(content)
    with pytest.raises(ConfigError, match=str(place)):
        Secret(file=place).reveal()


def test_an_unset_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAMPLE_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="environment variable SAMPLE_TOKEN is empty or not set"):
        Secret(env="SAMPLE_TOKEN").reveal()


def test_secrets_are_looked_up_while_reading_only_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAMPLE_TOKEN", raising=False)
    assert read(token={"env": "SAMPLE_TOKEN"}).token == Secret(env="SAMPLE_TOKEN")
    with pytest.raises(ValidationError, match="SAMPLE_TOKEN is empty or not set"):
        Secret.model_validate({"env": "SAMPLE_TOKEN"}, context=AsWritten(reveal=True))


def test_a_secret_shows_where_it_is_kept_and_never_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_TOKEN", "hunter2")
    sample = read(token={"env": "SAMPLE_TOKEN"})
    assert sample.token is not None
    assert sample.token.reveal() == "hunter2"
    for shown in (repr(sample), str(sample), sample.model_dump_json(), repr(sample.model_dump())):
        assert "SAMPLE_TOKEN" in shown
        assert "hunter2" not in shown


def test_a_refused_value_is_not_repeated_in_the_error() -> None:
    assert "hunter2" not in complaint(token="hunter2")
    assert "hunter2" not in complaint(token={"value": "hunter2"})


def test_not_a_number_is_no_value() -> None:
    class Plain(Model):
        factor: float = 1.0

    with pytest.raises(ValidationError):
        Plain(factor=float("nan"))


def test_a_moment_carries_its_offset() -> None:
    assert read(moment="2026-12-24T00:00:00Z").moment == datetime(2026, 12, 24, tzinfo=UTC)


@pytest.mark.parametrize("value", ["2026-12-24T00:00:00", "soon", 1_800_000_000, date(2026, 12, 24), True])
def test_what_names_no_moment_is_refused(value: object) -> None:
    assert complaint(moment=value)
