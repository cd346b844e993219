"""The benchmarks: every case gives its ratios, compares like with like, and fails aloud. No test asserts a time."""

from __future__ import annotations

import io
import json
import os
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from training import benchmarks
from training.__main__ import main
from training.benchmarks import CASES, benchmark, networks, published, published_direct, volumes
from training.benchmarks.case import CPU, Case, Conditions, spread
from training.benchmarks.memory import in_own_process, peak_gib
from training.benchmarks.worker import expect

TINY = Conditions(repeats=1, layers=9, networks=8, thin=(4, 12, 12), cube=(6, 6, 6), small=(6, 6, 6))
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is known on Linux alone")


@pytest.fixture(autouse=True)
def known_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing MONAI again in every process would take longer than all else here."""
    peaks = {networks.se_unet: 3.0, networks.monai_unet: 2.0}
    monkeypatch.setattr(networks, "in_own_process", lambda function, build, *_: peaks[build])


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["training", "benchmark", *map(str, arguments)])
    main()


# Every case


@pytest.mark.parametrize("name", CASES)
def test_a_case_gives_its_ratio_and_how_far_single_ones_lie_apart(name: str) -> None:
    figures = benchmark([name], TINY)
    assert {f"{name}.ratio", f"{name}.ratio.min", f"{name}.ratio.max"} <= set(figures)
    assert figures[f"{name}.ratio"] > 0
    assert all(key.startswith(name) for key in figures)
    assert (name in figures) == name.endswith("_s")  # what is named in seconds is given in seconds too


def test_the_sides_take_turns_after_a_warm_up_that_does_not_count() -> None:
    calls: list[str] = []

    def side(name: str) -> float:
        calls.append(name)
        return len(calls)

    pairs = Case("case", lambda: side("a"), lambda: side("b")).pairs(3)
    assert "".join(calls) == "ab" + "ababab"
    assert pairs == [(3, 4), (5, 6), (7, 8)]


def test_a_ratio_is_ours_over_the_others_and_of_many_the_median() -> None:
    case = Case("case", lambda: 0, lambda: 0)
    assert case.ratios([(1, 2), (9, 3), (1, 1)]) == {"case.ratio": 1, "case.ratio.min": 0.5, "case.ratio.max": 3}
    assert spread("x", [4, 1, 7, 100, 2])["x"] == 4


def test_a_case_that_fails_is_an_error_and_nothing_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object) -> dict[str, float]:
        raise MemoryError("too large")

    monkeypatch.setitem(CASES, "worker_start_vs_import_torch", fail)  # type: ignore[arg-type]
    with pytest.raises(MemoryError, match="too large") as caught:
        run(monkeypatch, "--cases", "worker_start_vs_import_torch", "--json", tmp_path / "figures.json")
    assert "worker_start_vs_import_torch" in caught.value.__notes__[0]
    assert not list(tmp_path.iterdir())


# The published layers


@pytest.mark.parametrize("scale_size", [1, 2, 4])
def test_the_direct_implementation_computes_what_the_layers_do(scale_size: int) -> None:
    torch.manual_seed(0)
    level, image = published.Level(scale_size), torch.randn(2, 4, 9, 11, 13)
    for name, bias in level.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(bias)
    ours, direct = level(image), level.directly(image)
    assert ours.shape == (2, 4, 4, 9, 11, 13)
    torch.testing.assert_close(ours, direct)
    gradients = [torch.autograd.grad(maps.square().mean(), list(level.parameters())) for maps in (ours, direct)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["published_vs_direct", "published_step_vs_direct_step"])
def test_implementations_that_differ_are_not_timed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lifted = published_direct.lifted

    def slightly_wrong(conv: Any, image: Tensor) -> Tensor:
        return lifted(conv, image) * torch.tensor([1.0, 1.0, 1.0, 1.001]).reshape(-1, 1, 1, 1)

    monkeypatch.setattr(published_direct, "lifted", slightly_wrong)
    with pytest.raises(ArithmeticError, match="differ by"):
        benchmark([name], TINY)


def test_a_result_that_is_no_number_is_a_difference() -> None:
    with pytest.raises(ArithmeticError):
        published.refuse_different([torch.tensor([torch.nan])], [torch.ones(1)])


# Networks and their memory


@LINUX
def test_networks_are_compared_by_memory_too_and_are_about_equally_large() -> None:
    figures = benchmark(["se_unet_vs_monai_unet"], TINY)
    assert figures["se_unet_vs_monai_unet.peak_ratio"] == 1.5
    assert 0.5 < figures["se_unet_vs_monai_unet.parameter_ratio"] < 2


@LINUX
def test_the_peak_of_a_network_is_measured_in_a_process_of_its_own() -> None:
    activations = 8 * 32**3 * 4 / 2**30
    assert activations < in_own_process(networks.peak, networks.se_unet, networks.forward, 32, CPU) < 100 * activations


def test_where_memory_cannot_be_measured_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(networks, "can_measure_peak", lambda device: False)
    figures = benchmark(["se_unet_vs_monai_unet"], TINY)
    assert "se_unet_vs_monai_unet.ratio" in figures
    assert "se_unet_vs_monai_unet.peak_ratio" not in figures
    assert "no se_unet_vs_monai_unet.peak_ratio" in capsys.readouterr().err


def test_a_training_step_changes_the_weights_and_a_forward_pass_does_not() -> None:
    network = networks.se_unet()
    before = [p.clone() for p in network.parameters()]
    networks.forward(network, 8)()
    assert all(map(torch.equal, before, network.parameters()))
    networks.step(network, 8)()
    assert not any(map(torch.equal, before, network.parameters()))


@LINUX
def test_the_peak_counts_what_has_been_given_back_and_not_what_was_there_before() -> None:
    kept = np.ones(2**24)
    assert peak_gib(lambda: np.ones(2**25).sum(), CPU) == pytest.approx(0.25, rel=0.05)
    assert peak_gib(lambda: kept.sum(), CPU) < 0.01


def test_another_process_computes_and_its_death_is_an_error() -> None:
    assert in_own_process(os.getpid) != os.getpid()
    with pytest.raises(BrokenProcessPool):
        in_own_process(os._exit, 3)


def test_the_engines_figures_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = {"seconds_per_voxel": 2.0, "peak_gib": 3.0}
    monkeypatch.setattr(volumes, "in_own_process", lambda function, bundle, shape: measured)
    assert volumes.engine() == {
        "peak_gib_512x512x800": 3,
        "voxel_cost_800_vs_128": 1,
        "voxel_cost_128_after_vs_before": 1,
    }


@LINUX
def test_a_volume_is_measured_in_time_and_memory() -> None:
    figures = volumes.measure(volumes.bundled(), (4, 12, 12))
    assert set(figures) == {"seconds_per_voxel", "peak_gib"}
    assert figures["seconds_per_voxel"] > 0


# The worker


@pytest.mark.parametrize(
    ("replies", "message"),
    [
        ('{"type": "progress"}\n{"type": "error", "message": "no such bundle"}\n', "no such bundle"),
        ("", "its process ended"),
    ],
)
def test_a_worker_that_does_not_answer_as_expected_is_an_error(replies: str, message: str) -> None:
    worker: Any = SimpleNamespace(stdout=io.StringIO(replies))
    with pytest.raises(RuntimeError, match=message):
        expect("result", worker)


# The command


def test_the_command_prints_and_writes_the_figures_of_the_cases_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(monkeypatch, "--cases", "published_vs_direct", "--repeats", 1, "--json", tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures) == {f"published_vs_direct.{key}" for key in ("ratio", "ratio.min", "ratio.max")}
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()] == list(figures)


def test_the_command_measures_all_cases_as_often_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def record(names: Any, conditions: Conditions) -> dict[str, float]:
        asked.append((tuple(names), conditions))
        return {"ratio": 1.0}

    monkeypatch.setattr(benchmarks, "benchmark", record)
    run(monkeypatch)
    run(monkeypatch, "--repeats", 7, "--device", "cpu")
    assert asked == [(tuple(CASES), Conditions()), (tuple(CASES), Conditions(repeats=7))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "published_vs_direct,nonsense"], "unknown case nonsense; known: published_vs_direct"),
        (["--repeats", "0"], "0 is not positive"),
        (["--engine", "--repeats", "3"], "--engine goes with --json and --overwrite alone"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, *arguments)
    assert message in capsys.readouterr().err + str(caught.value)
