"""An experiment is one list of runs: any number of processes work through it, each run is done once, all can resume."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ScaleEquivSegLib.cli import main as command_line
from ScaleEquivSegLib.errors import UnsuitableVolume
from ScaleEquivSegLib.folder_lock import alone_in
from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom
from ScaleEquivSegLib.volume import Volume, make_geometry, read_volume, write_volume
from training.cases import BadData, LabelledCase
from training.conduct import OtherSettings, Places, carry_out, done, overview, record_of
from training.config import BadConfig, CaseData, read_settings
from training.evaluate import measured_rows
from training.experiment import EXPERIMENTS, Run, find_experiment, read_experiment, runs_of
from training.export import read_card_text
from training.preparation import Task, in_native_voxels, read_example
from training.records import read_record, read_records

ROOT = Path(__file__).parents[1]
CARD = ROOT / "training" / "configs" / "phantom.card.yaml"
BASE = f"""
card: {CARD.as_posix()}
network: {{name: unet, arguments: {{channels: [2, 4]}}}}
data: {{folder: null, train: 1}}
fit: {{steps: 30, crop: [16, 16, 16], checkpoint_every: 2}}
"""
TINY = """
base: tiny.base.yaml
reference: unet
sizes: [1, 2]
seeds: [3]
scales: [0.8, 1]
variants:
  - name: unet
  - name: se_unet
    overrides: &ours [network.name=se_unet, "network.arguments.scale_axis={ratio: 1.5, count: 2}"]
  - name: se_unet longer axis
    overrides: *ours
    scale_axis: {ratio: 1.5, count: 3}
"""


def silent(line: str) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases") / "four_phantoms"
    assert command_line(["phantom", str(folder), "--count", "4", "--size", "20", "22", "24", "--scale", "0.4"]) == 0
    names = [f"phantom_{seed:06d}" for seed in range(4)]
    table = "".join(f"{name},{split}\n" for name, split in zip(names, ["train", "train", "val", "val"], strict=True))
    (folder / "cases.csv").write_text("case,split\n" + table)
    return folder


def experiment_file(folder: Path, text: str = TINY, base: str = BASE) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tiny.base.yaml").write_text(base)
    (folder / "tiny.yaml").write_text(text)
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Run], Places]:
    """All runs of the tiny experiment, done by one process in one go."""
    folder = tmp_path_factory.mktemp("undisturbed")
    runs = runs_of(read_experiment(experiment_file(folder)))
    places = Places(data, folder / "records", folder / "runs")
    assert carry_out(runs, places, silent) == []
    return runs, places


def test_a_record_says_what_was_run_where_and_how_well_every_case_was_found(
    undisturbed: tuple[list[Run], Places], data: Path
) -> None:
    runs, places = undisturbed
    record = read_record(places.records / "tiny" / "se_unet-longer-axis_n2_s3.json")
    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, encoding="utf-8").stdout
    for session in (*record.trained, record.measured):
        assert session["revision"] == revision.strip()
        assert session["torch"] == torch.__version__
        assert "cores" in session["platform"]
        assert session["seconds"] > 0
    assert (record.variant, record.size, record.training_cases, record.seed) == ("se_unet longer axis", 2, 2, 3)
    assert record.overrides[-2:] == ["data.train=2", "fit.seed=3"]
    assert record.config["fit"]["learning_rate"] == 6e-3  # the default, named nowhere else
    assert record.test["scale_axis"] == {"first": 1.0, "ratio": 1.5, "count": 3}
    assert record.parameters > 100

    assert record.cases == ["phantom_000002", "phantom_000003"]
    assert [(row["scale"], row["label"]) for row in record.rows] == [
        (scale, label) for scale in (0.8, 1) for label in ("Head", "Body")
    ]
    dice = np.array([row["dice"] for row in record.rows if row["scale"] == 0.8])
    assert dice.shape == (2, 2)
    assert record.mean("dice.mean", 0.8) == pytest.approx(dice.mean(), abs=1e-4)
    assert str(data.parent) not in record_of(runs[-1], places.records).read_text()


def test_variants_that_differ_in_the_test_alone_share_one_training(undisturbed: tuple[list[Run], Places]) -> None:
    runs, places = undisturbed
    trained = {path.name for path in (places.runs / "trained" / places.data.name).iterdir()}
    assert len(runs) == 6
    assert len(trained) == 4
    assert trained == {run.training() for run in runs}
    short, longer = (
        read_record(places.records / "tiny" / f"{name}_n2_s3.json") for name in ("se_unet", "se_unet-longer-axis")
    )
    assert short.trained == longer.trained
    assert short.test["scale_axis"] is None


def test_what_is_done_is_not_done_again(undisturbed: tuple[list[Run], Places], monkeypatch: pytest.MonkeyPatch) -> None:
    runs, places = undisturbed
    monkeypatch.setattr("training.conduct.fit", None)
    monkeypatch.setattr("training.conduct.measured_rows", None)
    assert carry_out(runs, places, silent) == []


def test_what_another_experiment_has_measured_is_taken_from_its_records(
    undisturbed: tuple[list[Run], Places], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, places = undisturbed
    here = Places(places.data, tmp_path / "records", tmp_path / "runs")
    shutil.copytree(places.records, here.records)
    text = (
        TINY.replace("scales: [0.8, 1]", "")
        .replace("longer axis", "axis of three")
        .replace("unet\nsizes", "se_unet\nsizes")
    )
    of_one_scale = runs_of(read_experiment(experiment_file(tmp_path, text).rename(tmp_path / "less.yaml")))
    monkeypatch.setattr("training.conduct.fit", None)
    monkeypatch.setattr("training.conduct.measured_rows", None)
    assert carry_out(of_one_scale, here, silent) == []
    for run, wider in zip(of_one_scale, runs, strict=True):
        record, source = (read_record(record_of(each, here.records)) for each in (run, wider))
        assert (record.experiment, record.variant, record.reference) == ("less", run.variant.name, "se_unet")
        assert record.test == run.test()
        assert record.rows == [row for row in source.rows if row["scale"] == 1]
        assert record.means == {key: value for key, value in source.means.items() if key.endswith("@1")}
        assert (record.trained, record.measured) == (source.trained, source.measured)
    assert carry_out(of_one_scale, here, silent) == []  # and it is the run's own from now on


def test_only_the_same_training_tested_alike_is_taken_from_other_records(
    undisturbed: tuple[list[Run], Places], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, places = changed_data(undisturbed, tmp_path)
    monkeypatch.setattr("training.conduct.fit", None)
    monkeypatch.setattr("training.conduct.measured_rows", None)

    def of_another_experiment(old: str, new: str, name: str) -> list[Run]:
        return runs_of(read_experiment(experiment_file(tmp_path, TINY.replace(old, new)).rename(tmp_path / name)))

    another_scale = of_another_experiment("[0.8, 1]", "[0.8, 1, 2]", "scale.yaml")
    another_seed = of_another_experiment("[3]", "[4]", "seed.yaml")
    another_axis = of_another_experiment("count: 3}", "count: 4}", "axis.yaml")[-1:]
    for run in (*another_scale, *another_seed, *another_axis):
        assert carry_out([run], places, silent) == [run]
    same = of_another_experiment("name: unet", "name: unet", "same.yaml")
    assert carry_out(same[:1], places, silent) == []
    with_labels_changed(places)
    assert carry_out(same[1:2], places, silent) == same[1:2]


def test_a_run_that_another_process_ends_while_one_waits_for_the_lock_is_not_done_again(
    undisturbed: tuple[list[Run], Places], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, places = undisturbed
    here = Places(places.data, tmp_path / "records", places.runs)

    @contextmanager
    def too_late(folder: Path) -> Iterator[None]:
        shutil.copytree(places.records, here.records)
        yield

    monkeypatch.setattr("training.conduct.alone_in", too_late)
    monkeypatch.setattr("training.conduct.measured_rows", None)
    said: list[str] = []
    assert carry_out(runs[:1], here, said.append) == []
    assert said == []


def test_the_list_says_what_is_done_and_how_long_the_rest_will_take(
    undisturbed: tuple[list[Run], Places], tmp_path: Path
) -> None:
    runs, places = undisturbed
    records = tmp_path / "records"
    shutil.copytree(places.records, records)
    *lines, last = overview(runs, records, places.runs)
    assert all(line.startswith("done") for line in lines)
    assert last.startswith("6 of 6 done; the rest: 0.0 min")

    for run in runs[:2]:  # unet and se_unet on one case; the training of se_unet is that of another run's record
        record_of(run, records).unlink()
    unet, se_unet, *_, last = overview(runs, records, places.runs)
    of_unet = read_record(places.records / "tiny" / "unet_n2_s3.json")
    expected = (of_unet.training_seconds + of_unet.measured["seconds"]) / 60
    assert unet == f"left    unet_n1_s3: {expected:.1f} min"
    measuring = read_record(places.records / "tiny" / "se_unet_n2_s3.json").measured["seconds"] / 60
    assert se_unet == f"left    se_unet_n1_s3: {measuring:.1f} min"
    assert last == f"4 of 6 done; the rest: {expected + measuring:.1f} min for one process"
    assert list(overview(runs, tmp_path / "nothing", places.runs))[-1].endswith("nobody knows how long for one process")


def test_a_record_made_with_other_settings_is_not_taken_for_the_run(
    undisturbed: tuple[list[Run], Places], tmp_path: Path
) -> None:
    runs, places = undisturbed
    changed = runs_of(read_experiment(experiment_file(tmp_path, base=BASE.replace("steps: 30", "steps: 32"))))
    with pytest.raises(OtherSettings, match="remove it"):
        done(changed[0], places.records)
    assert not {run.training() for run in changed} & {run.training() for run in runs}
    assert next(overview(changed, places.records, places.runs)).startswith("other   unet_n1_s3")
    with_card = experiment_file(tmp_path, base=BASE.replace("card: ", "card: mine.yaml # "))
    mine = read_settings(runs[0].config(places.data).card) | {"spacing": [1.1, 1.1, 1.1]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    with pytest.raises(OtherSettings):
        done(runs_of(read_experiment(with_card))[0], places.records)
    tested_otherwise = runs_of(read_experiment(experiment_file(tmp_path, TINY.replace("[0.8, 1]", "[0.8, 1, 2]"))))
    with pytest.raises(OtherSettings):
        done(tested_otherwise[0], places.records)


def test_a_record_stays_that_of_the_run_if_a_description_or_the_machine_changes(
    undisturbed: tuple[list[Run], Places], tmp_path: Path
) -> None:
    runs, places = undisturbed
    mine = read_settings(runs[0].config(places.data).card) | {"limits": "Others than before."}
    base = BASE.replace("card: ", "card: mine.yaml # ") + "compute: {workers: 1, precision: bf16-mixed}\n"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    now = runs_of(read_experiment(experiment_file(tmp_path, base=base)))
    assert all(done(run, places.records) for run in now)
    assert [run.training() for run in now] == [run.training() for run in runs]


def test_data_that_no_run_can_use_end_the_command_and_are_told_once(
    undisturbed: tuple[list[Run], Places], tmp_path: Path
) -> None:
    runs, _ = undisturbed
    nowhere = Places(tmp_path / "nowhere", tmp_path / "records", tmp_path / "runs")
    lines: list[str] = []
    with pytest.raises(BadData, match="nowhere"):
        carry_out(runs, nowhere, lines.append)
    assert not (tmp_path / "runs" / "failed").exists()


def changed_data(undisturbed: tuple[list[Run], Places], folder: Path) -> tuple[Run, Places]:
    """A run that is done, in places where its data and its record may be changed."""
    runs, places = undisturbed
    here = Places(folder / places.data.name, folder / "records", folder / "runs")
    for source, copy in ((places.data, here.data), (places.records, here.records), (places.runs, here.runs)):
        shutil.copytree(source, copy)
    assert carry_out(runs[:1], here, silent) == []
    return runs[0], here


def with_labels_changed(places: Places) -> None:
    labels = places.data / "labels" / "phantom_000003.nrrd"  # a case of the test
    volume = read_volume(labels)
    write_volume(Volume(volume.array * 0, volume.geometry), labels)


def test_a_record_is_not_taken_for_one_of_other_cases(undisturbed: tuple[list[Run], Places], tmp_path: Path) -> None:
    run, places = changed_data(undisturbed, tmp_path)
    with_labels_changed(places)
    said: list[str] = []
    assert carry_out([run], places, said.append) == [run]
    assert "was made with other cases than" in said[0]


def test_a_record_that_does_not_say_of_which_cases_it_is_counts(
    undisturbed: tuple[list[Run], Places], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, places = changed_data(undisturbed, tmp_path)
    path = record_of(run, places.records)
    entries = json.loads(path.read_text())
    del entries["cases_sha256"]
    path.write_text(json.dumps(entries))
    monkeypatch.setattr("training.conduct.fit", None)
    assert carry_out([run], places, silent) == []


def test_a_training_on_other_cases_is_not_used_again(undisturbed: tuple[list[Run], Places], tmp_path: Path) -> None:
    run, places = changed_data(undisturbed, tmp_path)
    record_of(run, places.records).unlink()
    table = places.data / "cases.csv"
    table.write_text(table.read_text().replace("1,train", "1,val").replace("2,val", "2,train"))
    assert carry_out([run], places, silent) == [run]
    assert "has a run on other cases" in places.failure(run).read_text()
    assert not record_of(run, places.records).exists()


def test_of_two_processes_one_is_killed_and_the_other_ends_with_the_same_records(
    undisturbed: tuple[list[Run], Places], tmp_path: Path
) -> None:
    runs = [run for run in undisturbed[0] if run.size == 1]
    places = Places(undisturbed[1].data, tmp_path / "records", tmp_path / "runs")
    command = [sys.executable, "-m", "training", "experiment", str(experiment_file(tmp_path))]
    command += ["--data", str(places.data), "--out", str(places.records), "--runs", str(places.runs)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _wait_for(places.training(runs[0]) / "run" / "last.ckpt", first)
    first.send_signal(signal.SIGSTOP)
    assert not (places.training(runs[0]) / "bundle").exists()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line.partition(": ")[2] if line.startswith("tiny") else "")
        if said == ["se_unet_n1_s3", ""]:
            first.send_signal(signal.SIGKILL)
            first.wait()

    try:
        assert carry_out(runs, places, say) == []
    finally:
        first.kill()
    assert said == ["se_unet_n1_s3", "", "se_unet-longer-axis_n1_s3", "", "unet_n1_s3", ""]
    for run in runs:
        wanted, found = (read_record(record_of(run, of.records)) for of in (undisturbed[1], places))
        assert (found.rows, found.means) == (wanted.rows, wanted.means)
        sessions = [session["seconds"] is None for session in found.trained]
        assert sessions == ([True, False] if run == runs[0] else [False])


def _wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_training_that_another_process_is_at_is_left_to_it(
    undisturbed: tuple[list[Run], Places], tmp_path: Path
) -> None:
    runs, places = undisturbed
    elsewhere = Places(places.data, tmp_path / "records", places.runs)
    lines: list[str] = []
    with alone_in(elsewhere.training(runs[0])):
        assert carry_out(runs[:2], elsewhere, lines.append) == []
    assert lines[-1] == "unet_n1_s3 is left to another process"
    assert [record.variant for record in read_records(elsewhere.records)] == ["se_unet"]


def test_a_run_that_fails_says_why_and_does_not_stop_the_rest(
    undisturbed: tuple[list[Run], Places], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, places = undisturbed
    broken = TINY.replace("name: unet\n", "name: unet\n    overrides: [network.name=no_net]\n")
    runs = runs_of(read_experiment(experiment_file(tmp_path, broken)), sizes=(9, 1))
    elsewhere = Places(places.data, tmp_path / "records", tmp_path / "runs")
    shutil.copytree(places.runs, elsewhere.runs)
    failed = carry_out(runs, elsewhere, silent)
    assert [run.name for run in failed] == [
        "unet_n9_s3",
        "se_unet_n9_s3",
        "se_unet-longer-axis_n9_s3",
        "unet_n1_s3",
    ]
    assert "four_phantoms has 2 cases to train on, not 9" in elsewhere.failure(failed[0]).read_text()
    assert "the network 'no_net' is unknown" in elsewhere.failure(failed[-1]).read_text()
    assert {record.variant for record in read_records(elsewhere.records)} == {"se_unet", "se_unet longer axis"}
    assert "failed  unet_n1_s3" in "\n".join(overview(runs, elsewhere.records, elsewhere.runs))

    mended = runs_of(read_experiment(experiment_file(tmp_path)), only=["unet"], sizes=[1])
    assert carry_out(mended, elsewhere, silent) == []
    assert not elsewhere.failure(mended[0]).exists()


def test_cases_of_the_test_that_cannot_be_used_are_told_of_before_anything_is_trained(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(data, damaged)
    image = damaged / "images" / "phantom_000003.nrrd"
    image.write_bytes(image.read_bytes()[:-10])
    monkeypatch.setattr("training.conduct.fit", None)
    runs = runs_of(read_experiment(experiment_file(tmp_path / "first")))
    places = Places(damaged, tmp_path / "records", tmp_path / "runs")
    with pytest.raises(BadData, match="case phantom_000003: "):
        carry_out(runs[:1], places, silent)
    on_nothing = runs_of(read_experiment(experiment_file(tmp_path / "second", TINY + "split: test\n")))
    with pytest.raises(BadData, match="no case of split 'test'"):
        carry_out(on_nothing[:1], places, silent)


def test_the_first_seed_of_everything_comes_before_the_second() -> None:
    experiment = read_experiment(find_experiment("data_efficiency"))
    runs = runs_of(experiment)
    assert [(run.variant.name, run.size, run.seed) for run in runs[: len(experiment.variants) + 1]] == [
        *((variant.name, 5, 0) for variant in experiment.variants),
        ("se_unet", 10, 0),
    ]
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert [run.name for run in runs_of(experiment, ["unet"], [0], [2])] == ["unet_nall_s2"]
    with pytest.raises(BadConfig, match="no variant u_net; known: se_unet, se_unet of as many parameters, unet,"):
        runs_of(experiment, ["u_net"])


def test_every_experiment_can_be_read_and_trains_networks_with_one_schedule() -> None:
    for path in EXPERIMENTS.glob("*.yaml"):
        if path.name.endswith(".base.yaml"):
            continue
        configs = [run.config(Path("cases")) for run in runs_of(read_experiment(path), seeds=[0])]
        schedules = {
            json.dumps([fit.steps, fit.batch, fit.crop, fit.learning_rate])
            for fit in (config.fit for config in configs)
        }
        assert len(schedules) == 1, path.name
        assert all(config.card.exists() for config in configs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TINY.replace("reference: unet", "reference: vnet"), "no variant 'vnet'"),
        (TINY.replace("name: se_unet\n", "name: unet\n"), "two variants called unet"),
        (TINY.replace("name: se_unet\n", "name: se_unet, small\n"), "has a comma"),
        (TINY.replace("sizes:", "cases:"), "unknown setting.*cases"),
        (TINY.replace("reference: unet", ""), "missing setting.*reference"),
        (TINY.replace("count: 3", "count: 0"), "scale_axis: .*no scale axis"),
    ],
)
def test_an_experiment_that_makes_no_sense_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=message):
        read_experiment(experiment_file(tmp_path, text))


# Voxels as they are


def test_native_voxels_are_shown_one_by_one_whatever_they_measure(tmp_path: Path) -> None:
    phantom = make_phantom(PhantomSpec(seed=1, size=(20, 22, 24), spacing=(1.7, 1.3, 0.9)))
    case = LabelledCase("odd", (tmp_path / "image.nrrd",), tmp_path / "labels.nrrd")
    write_volume(phantom.channels[0], case.images[0])
    write_volume(phantom.labels, case.labels)
    task = Task.from_card(read_card_text(CARD))
    native, resampled = (read_example(case, CaseData(native_voxels=native), task) for native in (True, False))
    assert native.image.shape == (1, 20, 22, 24)
    assert torch.equal(native.label[0], torch.from_numpy(phantom.labels.array.transpose(2, 1, 0)))
    assert resampled.image.shape == (1, 34, 29, 22)


def test_the_spacing_of_native_voxels_follows_the_axes_of_the_card() -> None:
    # i points up, j to the left and k forwards; the card counts right, forwards, up.
    direction = np.array([[0, -1, 0], [0, 0, 1], [1, 0, 0]])
    geometry = make_geometry((3, 4, 5), (9, 8, 7), direction, (0, 0, 0))
    task = Task((), (), "RAS", (1.0, 2.0, 3.0))
    (shown,) = in_native_voxels([Volume(np.zeros((5, 4, 3)), geometry)], task)
    assert shown.geometry.spacing == pytest.approx([3, 1, 2])
    assert shown.geometry.direction == pytest.approx(direction)
    moved = Volume(np.zeros((5, 4, 3)), make_geometry((3, 4, 5), (9, 8, 7), direction, (1, 0, 0)))
    with pytest.raises(UnsuitableVolume, match="one grid"):
        in_native_voxels([Volume(np.zeros((5, 4, 3)), geometry), moved], task)


def test_a_network_measured_in_native_voxels_sees_them_as_if_they_had_the_card_s_spacing(
    undisturbed: tuple[list[Run], Places], tmp_path: Path
) -> None:
    runs, places = undisturbed
    bundle = places.training(runs[0]) / "bundle"
    for folder, spacing in (("true", (1.6, 1.6, 1.6)), ("as_if", (1.0, 1.0, 1.0))):
        phantom = make_phantom(PhantomSpec(seed=1, size=(20, 22, 24), spacing=(1.6, 1.6, 1.6), scale=0.6))
        grid = make_geometry((20, 22, 24), spacing, np.eye(3), (0, 0, 0))
        write_volume(Volume(phantom.channels[0].array, grid), tmp_path / folder / "images" / "one.nrrd")
        write_volume(Volume(phantom.labels.array, grid), tmp_path / folder / "labels" / "one.nrrd")
    native = measured_rows(bundle, tmp_path / "true", settings={"native_voxels": True})
    as_if = measured_rows(bundle, tmp_path / "as_if")
    assert [row.dice for row in native] == [row.dice for row in as_if]
    assert [row.hd95 for row in native] == pytest.approx([1.6 * row.hd95 for row in as_if])
    assert [row.dice for row in measured_rows(bundle, tmp_path / "true")] != [row.dice for row in native]
