"""A damaged file is an error or reads as the whole volume it was; it never crashes, hangs, or takes all memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import damaged_volumes
from ScaleEquivSegLib.volume import read_volume

CASES = 1050


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What became of each case, in a process that a crash of ITK ends instead of the tests."""
    folder = tmp_path_factory.mktemp("damaged")
    damaged_volumes.write_originals(folder)
    command = [sys.executable, damaged_volumes.__file__, str(folder), "0", str(CASES)]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, f"ended with {run.returncode} after {run.stdout[-300:]}\n{run.stderr[-2000:]}"
    return [json.loads(line.partition("-> ")[2]) for line in run.stdout.splitlines() if "-> " in line]


def test_every_damaged_file_is_refused_or_read_whole(outcomes: list[dict[str, str]]) -> None:
    assert len(outcomes) == CASES
    assert [outcome for outcome in outcomes if outcome["complaint"]] == []


def test_every_kind_of_damage_was_done_to_every_format(outcomes: list[dict[str, str]]) -> None:
    done = Counter((outcome["format"], outcome["damage"]) for outcome in outcomes)
    wanted = {(name, how.__name__) for name in damaged_volumes.FORMATS for how in damaged_volumes.DAMAGES}
    assert set(done) == wanted
    assert min(done.values()) >= 10


@pytest.mark.parametrize("name", damaged_volumes.FORMATS)
def test_a_file_that_is_not_damaged_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    damaged_volumes.write_originals(tmp_path)
    found, wanted = read_volume(tmp_path / name), damaged_volumes.original()
    assert np.array_equal(found.array, wanted.array)
    assert found.geometry.agrees_with(wanted.geometry)
