"""Runs of training and prediction: killed and gone on with, of one process or two, and never mixed with another run."""

from __future__ import annotations

import csv
import filecmp
import hashlib
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ScaleEquivSegLib.bundles import read_bundle
from ScaleEquivSegLib.cli import main as command_line
from ScaleEquivSegLib.errors import OutputExists, SegmentationError
from ScaleEquivSegLib.folder_lock import LOCK
from ScaleEquivSegLib.volume import read_volume, write_volume
from ScaleEquivSegLib.whole_files import UNFINISHED
from training.__main__ import main
from training.config import BadConfig, ComputeConfig, Config, FitConfig, load_config
from training.fit import export_run, fit
from training.processes import PATIENCE, ending_together, trainer_on
from training.roster import roster_of
from training.run_folder import BEFORE, COMMAND, LAST, TwoCheckpoints, claim, newest_checkpoint, recorded_config
from training.splits import Chosen
from training.statistics import restate_statistics
from training.task import NetworkTask, SegmentationTask, schedule

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "training" / "configs" / "phantom_se_unet.yaml"
AXIS = "scale_axis: {first: 1.0, ratio: 1.41, count: 3}"
TINY = [
    "data.train=2",
    "fit.crop=[12, 12, 12]",
    f"network.arguments={{channels: [2, 4], {AXIS}, dropout: 0.2}}",
    "fit.scale_window=2",
    "fit.checkpoint_every=2",
    "fit.validate_every=6",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Small phantoms, two to train on and three to validate on, as a setting."""
    folder = tmp_path_factory.mktemp("data")
    assert command_line(["phantom", str(folder), "--count", "5", "--size", "20", "18", "16"]) == 0
    rows = [f"phantom_{n:06d},{'train' if n < 2 else 'val'}" for n in range(5)]
    (folder / "cases.csv").write_text("\n".join(["case,split", *rows]), encoding="utf-8")
    return f"data={{folder: {folder}}}"


def folder_of(data: str) -> Path:
    """The folder of the data, from the setting."""
    return Path(data.removeprefix("data={folder: ").removesuffix("}"))


def run(folder: Path, *more: str) -> None:
    """A fit with results in a folder."""
    fit(load_config(CONFIG, [*TINY, *more]), "the command", folder / "run", folder / "bundle")


def weights(folder: Path) -> bytes:
    return (folder / "bundle" / "weights.safetensors").read_bytes()


def forked(work: Callable[..., None], *arguments: object, **environment: str) -> BaseProcess:
    """Work in a process of its own, forked from one that has imported what takes long."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.fit", "training.predict"])
    process = context.Process(target=_quietly, args=(environment, work, *arguments))
    process.start()
    return process


def _quietly(environment: dict[str, str], work: Callable[..., None], *arguments: object) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.environ.update(environment)
    torch.set_num_threads(1)
    work(*arguments)


def begin(folder: Path, *settings: str) -> BaseProcess:
    """A fit in a process of its own."""
    return forked(run, folder, *settings)


def wait_for(folder: Path, process: BaseProcess, before: float) -> float:
    """Wait until there is a checkpoint written after a moment; returns when it was."""
    deadline = time.monotonic() + 60
    while (moment := _written(folder / "run" / LAST)) <= before:
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return moment


def _written(path: Path) -> float:
    """When a file was written; 0 if it is not there, as a checkpoint is while the next takes its place."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def test_a_fit_killed_at_random_moments_ends_with_the_very_bytes_of_one_that_was_not(data: str, tmp_path: Path) -> None:
    undisturbed, killed, steps = tmp_path / "undisturbed", tmp_path / "killed", "fit.steps=61"
    first = begin(undisturbed, data, steps)
    first.join(100)
    assert first.exitcode == 0
    moments, last = np.random.default_rng(5), 0.0
    for _ in range(4):
        process = begin(killed, data, steps)
        for _ in range(int(moments.integers(1, 4))):
            last = wait_for(killed, process, last)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (killed / "bundle").exists()
    end = begin(killed, data, steps, "compute.workers=1")
    end.join(100)
    assert end.exitcode == 0
    assert weights(killed) == weights(undisturbed)
    assert (killed / "bundle" / "card.json").read_bytes() == (undisturbed / "bundle" / "card.json").read_bytes()
    assert not list((killed / "run").glob(f"{UNFINISHED}*"))


def test_a_run_goes_on_from_the_checkpoint_before_if_the_last_is_damaged(
    data: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, data, "fit.steps=5")
    whole = weights(tmp_path)
    shutil.rmtree(tmp_path / "bundle")
    last = tmp_path / "run" / LAST
    os.truncate(last, last.stat().st_size // 2)
    run(tmp_path, data, "fit.steps=5")
    assert f"{last} is damaged" in capfd.readouterr().err
    assert weights(tmp_path) == whole

    for name in (LAST, BEFORE):
        os.truncate(tmp_path / "run" / name, 1000)
    with pytest.raises(SegmentationError, match="no checkpoint that can be read"):
        run(tmp_path, data, "fit.steps=5")


def test_a_damaged_checkpoint_does_not_take_the_place_of_the_one_before(tmp_path: Path) -> None:
    files = TwoCheckpoints()
    for step in range(3):
        files.save_checkpoint({"step": step}, tmp_path / LAST)
    assert [torch.load(tmp_path / name)["step"] for name in (LAST, BEFORE)] == [2, 1]
    os.truncate(tmp_path / LAST, 10)
    files.save_checkpoint({"step": 3}, tmp_path / LAST)
    assert [torch.load(tmp_path / name)["step"] for name in (LAST, BEFORE)] == [3, 1]


def test_there_is_a_last_checkpoint_while_the_next_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, last = TwoCheckpoints(), tmp_path / LAST
    files.save_checkpoint({"step": 0}, last)

    def watched(replace: Callable[..., None], *arguments: object) -> None:
        assert last.exists()
        replace(*arguments)
        assert last.exists()

    monkeypatch.setattr(os, "replace", partial(watched, os.replace))
    files.save_checkpoint({"step": 1}, last)
    assert [torch.load(tmp_path / name)["step"] for name in (LAST, BEFORE)] == [1, 0]


def test_a_checkpoint_is_taken_for_whole_only_if_it_is(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    torch.save({"weights": torch.zeros(100)}, tmp_path / BEFORE)
    assert newest_checkpoint(tmp_path) == tmp_path / BEFORE
    torch.save({"weights": torch.zeros(100)}, tmp_path / LAST)
    assert newest_checkpoint(tmp_path) == tmp_path / LAST
    for length in (0, 10, 600, (tmp_path / LAST).stat().st_size - 1):
        os.truncate(tmp_path / LAST, length)
        assert newest_checkpoint(tmp_path) == tmp_path / BEFORE


NO_CASES = roster_of(Chosen())


def begun(folder: Path, config: Config) -> None:
    """A run that has a checkpoint."""
    claim(folder, config, "the command", NO_CASES)
    (folder / LAST).write_bytes(b"")


@pytest.mark.parametrize("change", ["fit.steps=7", "data.scale=[1.0, 1.2]", "augmentation.noise=0.1"])
def test_the_folder_of_another_run_is_refused_and_the_setting_named(tmp_path: Path, change: str) -> None:
    begun(tmp_path, load_config(CONFIG))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OutputExists, match=change.partition("=")[0].replace(".", r"\.")):
        claim(tmp_path, load_config(CONFIG, [change]), "another command", NO_CASES)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_card_with_other_classes_is_another_run_and_one_with_another_description_is_not(tmp_path: Path) -> None:
    for path in (CONFIG, CONFIG.with_name("phantom_unet.yaml")):  # which it is based on
        shutil.copy(path, tmp_path)
    text = (CONFIG.parent / "phantom.card.yaml").read_text(encoding="utf-8")
    card = tmp_path / "phantom.card.yaml"
    card.write_text(text, encoding="utf-8")
    begun(tmp_path / "run", load_config(tmp_path / CONFIG.name))
    card.write_text(text.replace("Trying out", "Testing"), encoding="utf-8")
    claim(tmp_path / "run", load_config(tmp_path / CONFIG.name, ["name=other"]), "the command", NO_CASES)
    card.write_text(text.replace("name: Body", "name: Tail"), encoding="utf-8")
    with pytest.raises(OutputExists, match=r"card\.labels"):
        claim(tmp_path / "run", load_config(tmp_path / CONFIG.name), "the command", NO_CASES)


def test_a_run_may_go_on_on_other_machines(tmp_path: Path) -> None:
    begun(tmp_path, load_config(CONFIG))
    claim(tmp_path, load_config(CONFIG, ["compute.devices=2", "compute.workers=3"]), "another command", NO_CASES)
    assert (tmp_path / COMMAND).read_text() == "the command"


def test_checkpoints_that_do_not_say_what_they_are_of_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / LAST).write_bytes(b"")
    with pytest.raises(OutputExists, match="checkpoints of a run without"):
        claim(tmp_path, load_config(CONFIG), "the command", NO_CASES)


def test_a_run_without_a_checkpoint_does_not_keep_its_folder_for_itself(tmp_path: Path) -> None:
    claim(tmp_path, load_config(CONFIG), "the command", NO_CASES)
    claim(tmp_path, load_config(CONFIG, ["fit.steps=7"]), "another command", NO_CASES)
    assert recorded_config(tmp_path).fit.steps == 7
    assert (tmp_path / COMMAND).read_text() == "another command"


def test_a_command_that_was_corrected_begins_in_the_folder_of_the_first(data: str, tmp_path: Path) -> None:
    with pytest.raises(SegmentationError, match=r"say which they mean by data\.classes and data\.background"):
        run(tmp_path, data, "data.classes=[[1], [7]]", "fit.steps=2")
    run(tmp_path, data, "fit.steps=2")
    assert (tmp_path / "bundle" / "card.json").exists()


def test_what_was_prepared_for_other_settings_is_prepared_anew(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyError

    with monkeypatch.context() as before_training:
        before_training.setattr("training.fit.claim", stopped)
        with pytest.raises(KeyError):
            run(tmp_path, data, "data.classes=[[2], [1]]", "fit.steps=2")
    run(tmp_path, data, "fit.steps=2")
    run(tmp_path / "undisturbed", data, "fit.steps=2")
    assert weights(tmp_path) == weights(tmp_path / "undisturbed")


# Cases


def changed_data(data: str, folder: Path) -> tuple[Path, str]:
    """A copy of the data that a test may change."""
    shutil.copytree(folder_of(data), folder)
    return folder, f"data={{folder: {folder}}}"


def test_a_run_that_is_done_is_not_taken_for_one_on_other_data(data: str, tmp_path: Path) -> None:
    run(tmp_path, data, "fit.steps=2")
    card = (tmp_path / "bundle" / "card.json").read_bytes()
    other, setting = changed_data(data, tmp_path / "other")
    image = other / "images" / "phantom_000001.nrrd"
    write_volume(replace(read_volume(image), array=-read_volume(image).array), image)
    with pytest.raises(OutputExists, match=r"on other cases.*\n.*train: 1 with other files: phantom_000001$"):
        run(tmp_path, setting, "fit.steps=2")
    with pytest.raises(OutputExists, match="on other cases"):
        export_run(tmp_path / "run", tmp_path / "exported", overrides=[setting])
    assert not (tmp_path / "exported").exists()
    assert (tmp_path / "bundle" / "card.json").read_bytes() == card


def test_a_case_that_was_trained_on_is_not_held_out_when_a_run_goes_on(data: str, tmp_path: Path) -> None:
    folder, setting = changed_data(data, tmp_path / "data")
    run(tmp_path, setting, "fit.steps=2")
    table = folder / "cases.csv"
    before = table.read_text()
    table.write_text(before.replace("1,train", "1,val").replace("2,val", "2,train"))
    with pytest.raises(OutputExists) as refused:
        run(tmp_path, setting, "fit.steps=2")
    assert [line.strip() for line in str(refused.value).splitlines()[1:]] == [
        "train: 1 not there: phantom_000001",
        "train: 1 added: phantom_000002",
        "val: 1 not there: phantom_000002",
        "val: 1 added: phantom_000001",
    ]
    table.write_text(before)
    run(tmp_path, setting, "fit.steps=2")
    (tmp_path / "run" / "cases.json").unlink()
    with pytest.raises(OutputExists, match="nobody knows which cases"):
        run(tmp_path, setting, "fit.steps=2")


def test_a_card_names_the_cases_and_how_they_were_trained_on(
    data: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, data, "data.train=1", "fit.steps=2", "compute.precision=bf16-mixed")
    assert "1 cases train, 3 validate, 1 are not used (train: 1)\n" in capfd.readouterr().out
    training = read_bundle(tmp_path / "bundle").card["training"]
    assert training["data"]["held_out"] == [f"phantom_{n:06d}" for n in (2, 3, 4)]
    (trained_on,) = training["data"]["trained_on"]
    assert trained_on in ("phantom_000000", "phantom_000001")
    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, encoding="utf-8").stdout
    (session,) = training["sessions"]
    assert session["revision"] == revision.strip()
    assert session["precision"] == "bf16-mixed"
    export_run(tmp_path / "run", tmp_path / "again")
    assert read_bundle(tmp_path / "again").card["training"] == training
    run(tmp_path, data, "data.train=1", "fit.steps=2")
    sessions = read_bundle(tmp_path / "bundle").card["training"]["sessions"]
    assert [each["precision"] for each in sessions] == ["bf16-mixed", "32-true"]


def test_export_makes_the_bundle_of_a_run_again_and_says_if_the_run_is_not_finished(data: str, tmp_path: Path) -> None:
    run(tmp_path, data, "fit.steps=4")
    export_run(tmp_path / "run", tmp_path / "again")
    assert filecmp.cmpfiles(tmp_path / "bundle", tmp_path / "again", ["card.json", "weights.safetensors"], False)[0]
    os.replace(tmp_path / "run" / BEFORE, tmp_path / "run" / LAST)
    export_run(tmp_path / "run", tmp_path / "unfinished")
    training = read_bundle(tmp_path / "unfinished").card["training"]
    assert training["command"] == "the command  # exported after step 2"
    with pytest.raises(SegmentationError, match=r"config\.yaml"):
        export_run(tmp_path / "nothing", tmp_path / "bundle")


def test_a_run_goes_on_and_is_exported_wherever_its_data_are_now(data: str, tmp_path: Path) -> None:
    first = tmp_path / "one job" / "cases"
    shutil.copytree(folder_of(data), first)
    (first / "cases.csv").rename(tmp_path / "splits.csv")
    splits = f"data.splits={tmp_path / 'splits.csv'}"
    run(tmp_path, f"data={{folder: {first}}}", splits, "fit.steps=4")
    before = weights(tmp_path)
    second, table = tmp_path / "another" / "other name", tmp_path / "tables" / "splits.csv"
    table.parent.mkdir()
    second.parent.mkdir()
    os.replace(first, second)
    os.replace(tmp_path / "splits.csv", table)

    moved = [f"data.folder={second}", f"data.splits={table}"]
    export_run(tmp_path / "run", tmp_path / "exported", overrides=moved)
    assert (tmp_path / "exported" / "weights.safetensors").read_bytes() == before
    run(tmp_path, "data={}", *moved, "fit.steps=4")
    assert weights(tmp_path) == before
    with pytest.raises(SegmentationError, match="does not exist"):
        export_run(tmp_path / "run", tmp_path / "nowhere")
    with pytest.raises(OutputExists, match=r"fit\.steps was 4, and is 6"):
        export_run(tmp_path / "run", tmp_path / "nowhere", overrides=[*moved, "fit.steps=6"])
    os.replace(table, table.with_name("others.csv"))
    with pytest.raises(OutputExists, match=r"data\.splits was splits.csv, and is others.csv"):
        run(tmp_path, "data={}", moved[0], f"data.splits={table.with_name('others.csv')}", "fit.steps=4")


@pytest.mark.parametrize("command", ["fit", "experiment"])
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_a_signal_ends_says_so_and_how_to_go_on(
    data: str, tmp_path: Path, command: str, by: signal.Signals
) -> None:
    if command == "fit":
        arguments = [str(CONFIG), *TINY, data, "fit.steps=100000"]
        arguments += ["--run", str(tmp_path / "run"), "--bundle", str(tmp_path / "bundle")]
    else:
        base = [f"card: {CONFIG.with_name('phantom.card.yaml')}", f"network: {{name: se_unet, arguments: {{{AXIS}}}}}"]
        base += ["fit: {steps: 100000, crop: [12, 12, 12], checkpoint_every: 2}"]
        (tmp_path / "base.yaml").write_text("\n".join(base))
        (tmp_path / "mine.yaml").write_text("base: base.yaml\nreference: a\nvariants: [{name: a}]")
        arguments = [str(tmp_path / "mine.yaml"), "--data", str(folder_of(data))]
        arguments += ["--out", str(tmp_path / "records"), "--runs", str(tmp_path / "runs")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'ScaleEquivSeg'}{os.pathsep}{ROOT}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "training", command, *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(by, signal.SIG_DFL),  # it is ignored where the tests run in the background
    )
    try:
        deadline = time.monotonic() + 100
        while not list(tmp_path.rglob(LAST)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(by)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + by
    assert re.search(rf"error: stopped by {by.name} at step \d+; the same command goes on", told)
    assert not list(tmp_path.rglob("card.json"))


def test_a_training_that_leaves_the_numbers_ends_with_what_to_change(data: str, tmp_path: Path) -> None:
    with pytest.raises(SegmentationError, match=r"The loss is nan at step \d.*fit\.learning_rate"):
        run(tmp_path, data, "fit.steps=20", "fit.learning_rate=1.0e+30", "fit.gradient_clip=1.0e+30")
    assert not (tmp_path / "bundle").exists()


def test_a_training_in_float16_bears_a_few_steps_left_out_and_ends_when_there_are_no_others() -> None:
    parameter, scaler = torch.nn.Parameter(torch.ones(1)), torch.amp.GradScaler("cpu")
    optimizer = torch.optim.SGD([parameter], 0.1)
    task: Any = SimpleNamespace(trainer=SimpleNamespace(precision_plugin=SimpleNamespace(scaler=scaler)), global_step=0)

    def steps(count: int, gradient: float) -> None:
        for _ in range(count):
            NetworkTask.on_before_backward(task, parameter.sum())
            optimizer.zero_grad()
            scaler.scale((parameter * gradient).sum()).backward()
            scaler.step(optimizer)
            scaler.update()

    steps(10, math.inf)
    assert parameter.item() == 1
    steps(1, 1.0)
    assert parameter.item() == pytest.approx(0.9)
    with pytest.raises(SegmentationError, match=r"compute\.precision=bf16-mixed"):
        steps(20, math.nan)


def test_float16_which_only_gpus_have_is_noted_as_what_it_becomes_elsewhere(data: str, tmp_path: Path) -> None:
    run(tmp_path, data, "fit.steps=2", "compute={accelerator: cpu, precision: 16-mixed}")
    (session,) = read_bundle(tmp_path / "bundle").card["training"]["sessions"]
    assert session["precision"] == "bf16-mixed"


def test_the_figures_and_statistics_of_a_bundle_are_not_computed_in_tf32(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[bool] = []
    found = SegmentationTask._found

    def noted(work: Any) -> Any:
        return lambda *arguments: allowed.append(torch.backends.cudnn.allow_tf32) or work(*arguments)

    run(tmp_path, data, "fit.steps=2")
    monkeypatch.setattr(SegmentationTask, "_found", noted(found))
    monkeypatch.setattr("training.fit.restate_statistics", noted(restate_statistics))
    export_run(tmp_path / "run", tmp_path / "again")
    assert allowed == [False] * 4  # the statistics, and three cases


def test_a_network_trains_in_half_precision_and_its_bundle_is_measured_in_full(data: str, tmp_path: Path) -> None:
    run(tmp_path, data, "fit.steps=2", "compute.precision=bf16-mixed")
    half, card = weights(tmp_path), read_bundle(tmp_path / "bundle").card
    export_run(tmp_path / "run", tmp_path / "bundle")  # in full precision
    assert weights(tmp_path) == half
    assert read_bundle(tmp_path / "bundle").card["metrics"] == card["metrics"]
    run(tmp_path / "full", data, "fit.steps=2")
    assert weights(tmp_path / "full") != half
    assert all(values.dtype == torch.float32 for values in load_file(tmp_path / "bundle/weights.safetensors").values())


def test_the_learning_rate_can_fall_by_a_factor_each_round_of_the_cases() -> None:
    fit_config = FitConfig(learning_rate=0.008, schedule="step", decay=0.95, decay_every=3)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], fit_config.learning_rate)
    steps, rates = schedule(optimizer, fit_config), []
    for _ in range(7):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        steps.step()
    assert rates == pytest.approx([0.008 * 0.95**n for n in (0, 0, 0, 1, 1, 1, 2)])


# Two processes


def of_two() -> dict[str, str]:
    """What a process is told that somebody else has started as one of two."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    return {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "2", "NODE_RANK": "0"}


def in_two(*arguments: str) -> list[int | None]:
    """A command of training in two processes that somebody else starts; returns their exit codes."""
    common = of_two()
    processes = [forked(_command, *arguments, "--devices", "2", LOCAL_RANK=rank, **common) for rank in "01"]
    for process in processes:
        process.join(100)
    return [process.exitcode for process in processes]


def _command(*arguments: str) -> None:
    sys.argv = ["training", *arguments]
    main()


def test_two_processes_train_the_network_that_one_trains(data: str, tmp_path: Path) -> None:
    settings = ["network.name=dynamic_se_unet", f"network.arguments={{channels: [2, 4], {AXIS}}}", "fit.batch=4"]
    settings += [data, "fit.steps=3", "fit.learning_rate=0.001", "compute.accelerator=cpu"]
    run(tmp_path / "one", *settings)
    two = tmp_path / "two"
    command = [sys.executable, "-m", "training", "fit", str(CONFIG), *TINY, *settings, "compute.devices=2"]
    command += ["--run", str(two / "run"), "--bundle", str(two / "bundle")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'ScaleEquivSeg'}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("dice.Body") == 1
    assert f"{two / 'bundle'}: validation dice" in done.stdout

    one_state, two_state = (load_file(folder / "bundle" / "weights.safetensors") for folder in (tmp_path / "one", two))
    # Added to the attention of every scale alike, so that nothing but rounding moves it.
    for state in (one_state, two_state):
        state["projection.scores.conv.bias"][-1] = 0
    for name, values in one_state.items():
        torch.testing.assert_close(two_state[name], values, atol=1e-4, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    cards = [read_bundle(folder / "bundle").card for folder in (tmp_path / "one", two)]
    assert cards[0]["name"] == cards[1]["name"]
    assert cards[1]["metrics"] == pytest.approx(cards[0]["metrics"], abs=1e-3)


def test_a_process_that_stops_for_an_error_ends_those_that_it_started() -> None:
    trainer = trainer_on(ComputeConfig(accelerator="cpu", devices=2))
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    trainer.strategy.launcher.procs.append(child)
    with pytest.raises(OutputExists), ending_together(trainer):
        raise OutputExists
    assert child.wait(10) == -signal.SIGTERM


def _alone() -> None:
    """The first of two processes, the second of which has failed before it came."""
    two = ComputeConfig(accelerator="cpu", devices=2)
    trainer_on(two, timedelta(seconds=1)).strategy.setup_environment()


def test_a_process_waits_no_longer_for_others_than_its_patience() -> None:
    process = forked(_alone, LOCAL_RANK="0", **of_two())
    process.join(60)
    assert process.exitcode == 1
    assert timedelta(hours=1) > PATIENCE


def test_a_batch_that_processes_cannot_share_is_refused_before_anything_is_read(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(CONFIG, [*TINY, data, "fit.batch=3", "compute.accelerator=cpu", "compute.devices=2"])
    # Nothing is read, and no run is begun that would keep its batch for ever.
    monkeypatch.setattr("training.fit.examples", None)
    with pytest.raises(BadConfig, match=r"of 3 cannot be shared by 2 processes: set fit\.batch to a multiple of 2"):
        fit(config, "the command", tmp_path / "run", tmp_path / "bundle")
    assert not (tmp_path / "run").exists()


def test_a_run_may_train_on_all_cases_and_its_card_says_that_nothing_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line(["phantom", str(tmp_path / "data"), "--count", "2", "--size", "12", "12", "12"]) == 0
    (tmp_path / "data" / "cases.csv").unlink()
    settings = [f"data={{folder: {tmp_path / 'data'}, validation: 0, train: 2}}", "fit.steps=4"]
    places = ["--run", str(tmp_path / "run"), "--bundle", str(tmp_path / "bundle")]
    monkeypatch.setattr(sys, "argv", ["training", "fit", str(CONFIG), *TINY[1:], *settings, *places])
    monkeypatch.setattr("ScaleEquivSegLib.progress.SECONDS_TO_LEARN_A_PACE", 0)
    main()
    told = capsys.readouterr().out
    assert re.search(r"step 2 of 4: loss \d\.\d{4}, \d\.\d min left\n", told)
    assert "bundle: no case was held out to validate on, after" in told
    assert not (tmp_path / "run" / "examples").exists()
    card = read_bundle(tmp_path / "bundle").card
    assert card["metrics"] == {}
    assert "no case was held out" in card["metrics_command"]


def test_two_processes_predict_what_the_command_line_segments_and_leave_the_same_files(tmp_path: Path) -> None:
    assert command_line(["phantom", str(tmp_path), "--count", "4", "--size", "12", "12", "12"]) == 0
    images, one, two = tmp_path / "images", tmp_path / "one", tmp_path / "two"
    (images / "damaged.nrrd").write_text("NRRD0004\n")
    arguments = ["--bundle", "phantom-unet", "--device", "cpu"]
    assert command_line(["segment", "--cases", str(images), "-o", str(one), *arguments]) == 10
    predict = ["predict", "--data", str(images), "--out", str(two), "--bundle", "phantom-unet"]
    assert in_two(*predict) == [10, 0]
    names = sorted(path.name for path in one.iterdir())
    assert {LOCK, "failures.csv", "volumes.csv", "phantom_000003.seg.nrrd"} <= set(names)
    assert sorted(path.name for path in two.iterdir()) == names
    assert filecmp.cmpfiles(one, two, names, shallow=False) == (names, [], [])

    # Again with less to do than there are processes, and none of it failing.
    (images / "damaged.nrrd").unlink()
    result = two / "phantom_000002.seg.nrrd"
    content = result.read_bytes()
    result.unlink()
    assert in_two(*predict, "--json", str(tmp_path / "report.json")) == [0, 0]
    report = json.loads((tmp_path / "report.json").read_text())
    assert {key: report[key] for key in ("done", "skipped", "failed")} == {"done": 1, "skipped": 3, "failed": 0}
    assert result.read_bytes() == content
    assert not (two / "failures.csv").exists()
    with (two / "volumes.csv").open(newline="") as stream:
        assert [row["case"] for row in csv.DictReader(stream)] == [f"phantom_{n:06d}" for n in range(4)]


def test_a_bundle_of_another_run_is_replaced_only_if_that_is_asked_for(data: str, tmp_path: Path) -> None:
    steps = "fit.steps=2"
    run(tmp_path, data, steps)
    run(tmp_path, data, steps)  # its own
    first = weights(tmp_path)
    config = load_config(CONFIG, [*TINY, data, steps, "fit.seed=1"])
    other, bundle = tmp_path / "other run", tmp_path / "bundle"
    with pytest.raises(OutputExists, match="not made; give another folder, or --overwrite"):
        fit(config, "the command", other, bundle)
    assert not (other / COMMAND).exists()  # nothing was begun that would say where its bundle is
    fit(config, "the command", other, tmp_path / "other bundle")
    with pytest.raises(OutputExists, match="not made"):
        export_run(other, bundle)
    assert weights(tmp_path) == first
    export_run(other, bundle, overwrite=True)
    assert weights(tmp_path) != first
    export_run(other, bundle)
    with pytest.raises(OutputExists, match="not made"):
        run(tmp_path, data, steps)


def test_a_run_killed_while_it_writes_its_bundle_goes_on_to_write_it(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as before_the_card:
        before_the_card.setattr("training.export._write_sealed", killed)
        with pytest.raises(Killed):
            run(tmp_path, data, "fit.steps=2")
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["weights.safetensors"]
    run(tmp_path, data, "fit.steps=2")
    assert read_bundle(tmp_path / "bundle").sha256 == hashlib.sha256(weights(tmp_path)).hexdigest()
