"""How far a run is, said where nobody sees a bar: now and then, not for every case."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from training.progress import SECONDS_BETWEEN_LINES, duration, followed


def clock(step: float) -> Iterator[float]:
    """Later by a step whenever it is looked at."""
    now = 0.0
    while True:
        yield now
        now += step


def told(capsys: pytest.CaptureFixture[str], step: float) -> list[str]:
    times = clock(step)
    assert list(followed("abcdefgh", "reading", lambda: next(times))) == list("abcdefgh")
    return capsys.readouterr().out.splitlines()


def test_a_log_gets_a_line_now_and_then_with_the_time_that_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, SECONDS_BETWEEN_LINES / 4)
    assert 2 <= len(lines) < 8
    assert lines[-1].startswith("reading: ")
    assert lines[-1].endswith("min left")
    assert " of 8, " in lines[-1]


def test_what_is_done_at_once_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, 0.01) == []


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_of_several_processes_the_first_alone_tells(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "1")
    assert told(capsys, SECONDS_BETWEEN_LINES) == []
    monkeypatch.setenv(name, "0")
    assert told(capsys, SECONDS_BETWEEN_LINES) != []


def test_times_are_told_as_people_say_them() -> None:
    assert [duration(seconds) for seconds in (30, 3599, 9000)] == ["0.5 min", "60.0 min", "2.5 h"]
