"""Each kind of request to the worker: its result is that of the command line, and what is wrong with it is named."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ScaleEquivSegLib import answers, comparison, devices
from ScaleEquivSegLib.bundles import bundled_models, read_bundle
from ScaleEquivSegLib.cli import main
from ScaleEquivSegLib.errors import BadRequest, Cancelled, UnsuitablePackage
from ScaleEquivSegLib.labelmap import segment_header
from ScaleEquivSegLib.provenance import read_provenance
from ScaleEquivSegLib.request import REQUESTS, read_message, request_from
from ScaleEquivSegLib.roi import Box
from ScaleEquivSegLib.scaling import SCALES_AT_MOST
from ScaleEquivSegLib.volume import Volume, make_geometry, read_volume, write_volume
from ScaleEquivSegLib.worker import Worker
from worker_client import Client, request, serve, small_phantom

NAMES = {"1": "Head", "2": "Body"}
Message = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom's image and labels, and labels that differ from those in two places."""
    folder = tmp_path_factory.mktemp("requests")
    labels = small_phantom(folder / "image.nrrd").labels
    write_volume(labels, folder / "labels.nrrd")
    changed = labels.array.copy()
    changed[labels.array == 2] = 0
    changed[1:3, 1:3, 1:4] = 1
    bundle = read_bundle(bundled_models() / "phantom-unet")
    header = segment_header(bundle.labels, labels.geometry)
    write_volume(Volume(changed, labels.geometry), folder / "changed.seg.nrrd", header)
    return folder


def compare_request(folder: Path, output: Path, **changes: Any) -> Message:
    files = {"a": str(folder / "changed.seg.nrrd"), "b": str(folder / "labels.nrrd")}
    return {"type": "compare", "id": "c", **files, "names": NAMES, "output": str(output)} | changes


def sweep_request(folder: Path, **changes: Any) -> Message:
    asked = request(folder / "image.nrrd", "s", type="sweep", scales=[0.5, 1, 1.25], slab=8)
    del asked["output"]
    return {**asked, **changes}


def answer_to(message: Message) -> Message:
    """The last reply to a request."""
    return serve([message])[-1]


# Comparing


@pytest.mark.parametrize("against_reference", [False, True])
def test_two_files_are_compared_as_the_command_line_does(folder: Path, tmp_path: Path, against_reference: bool) -> None:
    reply = answer_to(compare_request(folder, tmp_path / "map.seg.nrrd", against_reference=against_reference))
    assert reply["type"] == "result"
    files = [str(folder / "changed.seg.nrrd"), str(folder / "labels.nrrd")]
    reference = ["--reference", files[1]] if against_reference else []
    command = [
        "compare",
        *files,
        *reference,
        "-o",
        str(tmp_path / "cli.seg.nrrd"),
        "--json",
        str(tmp_path / "cli.json"),
    ]
    assert main(command) == 0
    by_command = json.loads((tmp_path / "cli.json").read_text())
    assert reply["figures"].items() <= by_command.items()
    assert {"dice.Head", "hd95.Body", "surface_dice.mean", "ml.Body.a", "ml.Body.b"} <= reply["figures"].keys()
    assert reply["figures"]["hd95.Body"] is None  # infinite: one has no body
    shown, wanted = (
        read_volume(tmp_path / name) for name in ("map.seg.nrrd", f"cli{'.a' * against_reference}.seg.nrrd")
    )
    assert np.array_equal(shown.array, wanted.array)
    assert read_provenance(tmp_path / "map.seg.nrrd")["a_file_sha256"]
    names = (tmp_path / "map.seg.nrrd").read_bytes()[:4000]
    assert (b"False negative" in names) == against_reference
    assert (b"Only A" in names) == (not against_reference)


def test_regions_of_disagreement_come_largest_first_with_their_place(folder: Path, tmp_path: Path) -> None:
    regions = answer_to(compare_request(folder, tmp_path / "map.seg.nrrd"))["regions"]
    labels = read_volume(folder / "labels.nrrd")
    assert regions[0]["ml"] == pytest.approx((labels.array == 2).sum() * labels.geometry.voxel_ml)
    assert regions[-1]["ml"] == pytest.approx(12 * labels.geometry.voxel_ml)
    assert np.allclose(regions[-1]["centre"], labels.geometry.to_ras(np.array([2, 1.5, 1.5])))


def test_of_many_regions_the_largest_are_told_and_all_are_counted(tmp_path: Path) -> None:
    grid = make_geometry((24, 24, 24), (1, 1, 1), np.eye(3), (0, 0, 0))
    dots = np.zeros(grid.shape, np.uint8)
    dots[::3, ::3, ::3] = 1
    dots[0, 0, :2] = 1
    for name, labels in (("a.nrrd", dots), ("b.nrrd", 0 * dots)):
        write_volume(Volume(labels, grid), tmp_path / name)
    files = {"a": str(tmp_path / "a.nrrd"), "b": str(tmp_path / "b.nrrd"), "names": {}}
    reply = answer_to(compare_request(tmp_path, tmp_path / "map.seg.nrrd", **files))
    assert len(reply["regions"]) == answers.REGIONS_TOLD
    assert reply["figures"]["disagreement_regions"] == 512
    assert [region["ml"] for region in reply["regions"][:2]] == pytest.approx([0.002, 0.001])


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"a": "nowhere.nrrd"}, "UnreadableVolume"),
        ({"b": "GRID"}, "UnsuitableVolume"),
        ({"b": "IMAGE"}, "UnsuitableVolume"),
        ({"output": "LABELS"}, "OutputExists"),
        ({"output": "map.txt"}, "UnwritableOutput"),
        ({"names": {"0": "Head"}}, "BadRequest"),
        ({"names": {"01": "Head"}}, "BadRequest"),
        ({"names": {"x": "Head"}}, "BadRequest"),
        ({"names": {"70000": "Head"}}, "BadRequest"),
        ({"names": {"1": "Head", "2": "Head"}}, "BadRequest"),
        ({"names": {"1": ""}}, "BadRequest"),
        ({"names": {"1": 1}}, "BadRequest"),
        ({"names": ["Head"]}, "BadRequest"),
        ({"names": None}, "BadRequest"),
        ({"against_reference": 1}, "BadRequest"),
        ({"device": "cpu"}, "BadRequest"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused(folder: Path, tmp_path: Path, change: Message, kind: str) -> None:
    shifted = make_geometry((3, 3, 3), (1, 1, 1), np.eye(3), (0, 0, 0))
    write_volume(Volume(np.ones((3, 3, 3), np.uint8), shifted), tmp_path / "grid.nrrd")
    places = {"GRID": str(tmp_path / "grid.nrrd"), "IMAGE": str(folder / "image.nrrd")}
    places["LABELS"] = str(folder / "labels.nrrd")
    change = {key: places.get(value, value) if isinstance(value, str) else value for key, value in change.items()}
    reply = answer_to(compare_request(folder, tmp_path / "map.seg.nrrd") | change)
    assert (reply["type"], reply["id"], reply["kind"]) == ("error", "c", kind)
    assert [path.name for path in tmp_path.iterdir()] == ["grid.nrrd"]


def test_comparing_does_without_torch(folder: Path, tmp_path: Path) -> None:
    without = (
        "import sys; sys.modules['torch'] = sys.modules['safetensors'] = None; from ScaleEquivSegLib import worker; "
        "worker.main()"
    )
    client = Client(tmp_path / "log", ["-c", without])
    client.send(compare_request(folder, tmp_path / "map.seg.nrrd"))
    assert client.answer()["type"] == "result"
    client.close()
    assert client.log.read_text() == ""


@pytest.mark.parametrize("phase", ["Starting", "Reading", "Comparing", "Writing"])
def test_a_comparison_can_be_cancelled_in_any_phase(folder: Path, tmp_path: Path, phase: str) -> None:
    replies = serve([compare_request(folder, tmp_path / "map.seg.nrrd")], cancelled_in(phase))
    assert replies[-1] == {"id": "c", "type": "cancelled"}
    assert not list(tmp_path.iterdir())


def cancelled_in(phase: str) -> Callable[[Worker, Message], None]:
    def cancel(here: Worker, reply: Message) -> None:
        if reply.get("phase") == phase:
            here._jobs[0].cancelled.set()

    return cancel


def test_a_long_search_for_distances_or_regions_is_stopped_in_its_midst() -> None:
    masks = np.zeros((2, 150, 150, 150), bool)
    masks[0, ::2, ::3] = masks[1, 5::7, :, ::3] = True
    grid = make_geometry((150, 150, 150), (1, 1, 1), np.eye(3), (0, 0, 0))
    asked = 0

    def stop() -> None:
        nonlocal asked
        asked += 1
        if asked >= 5:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        comparison.compare_masks(masks[0], masks[1], grid, check=stop)
    assert asked < 10
    asked = 4
    with pytest.raises(Cancelled, match="enough"):
        comparison.disagreement_regions(*(Volume(mask, grid) for mask in masks), check=stop)


# Sweeping


def test_a_sweep_has_the_figures_of_the_command_line(folder: Path, tmp_path: Path) -> None:
    reply = answer_to(sweep_request(folder, reference=str(folder / "labels.nrrd")))
    assert reply["type"] == "result"
    command = ["scale-sweep", str(folder / "image.nrrd"), "--bundle", "phantom-unet", "--scales", "0.5,1,1.25"]
    more = ["--reference", str(folder / "labels.nrrd"), "--device", "cpu", "--json", str(tmp_path / "f.json")]
    assert main([*command, *more]) == 0
    by_command = json.loads((tmp_path / "f.json").read_text())
    for at in reply["scales"]:
        for key in ("itself", "reference"):
            for label, dice in at[f"with_{key}"].items():
                assert by_command[f"phantom-unet.dice_with_{key}.{label}@{at['scale']:g}"] == dice
    assert [at["scale"] for at in reply["scales"]] == [0.5, 1, 1.25]
    assert reply["scales"][1]["with_itself"] == {"Head": 1, "Body": 1}
    assert reply["weights_sha256"] == by_command["phantom-unet.sha256"]
    assert reply["input_voxels_sha256"] == by_command["input_voxels_sha256"]


def test_a_sweep_without_a_reference_has_no_figures_of_one(folder: Path) -> None:
    (at,) = answer_to(sweep_request(folder, scales=[0.5]))["scales"]
    assert at["with_reference"] is None


@pytest.mark.parametrize("phase", ["Reading", "Unscaled", "Scale 0.5"])
def test_a_sweep_can_be_cancelled_in_any_phase(folder: Path, phase: str) -> None:
    assert serve([sweep_request(folder, scales=[0.5, 1])], cancelled_in(phase))[-1] == {"id": "s", "type": "cancelled"}


def test_a_cancel_stops_a_sweep_of_a_large_volume_at_once(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 1000, (120, 120, 120), dtype=np.int16)
    grid = make_geometry((120, 120, 120), (1, 1, 1), np.eye(3), (0, 0, 0))
    write_volume(Volume(noise, grid), tmp_path / "image.nrrd", compress=False)
    client = Client(tmp_path / "log")
    client.send(sweep_request(tmp_path, bundle=str(bundled_models() / "phantom-se_unet"), slab=None))
    client.wait_for("Unscaled")
    time.sleep(1)
    started = time.monotonic()
    client.send({"type": "cancel", "id": "s"})
    assert client.answer()["type"] == "cancelled"
    assert time.monotonic() - started < 10  # 2 s, and what a busy test machine adds
    client.close()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"scales": []}, "BadRequest"),
        ({"scales": 2}, "BadRequest"),
        ({"scales": ["2"]}, "BadRequest"),
        ({"scales": [True]}, "BadRequest"),
        ({"scales": [0]}, "BadRequest"),
        ({"scales": [1, 11]}, "BadRequest"),
        ({"scales": [1, 1.0]}, "BadRequest"),
        ({"scales": [1 + n / 100 for n in range(SCALES_AT_MOST + 1)]}, "BadRequest"),
        ({"reference": 3}, "BadRequest"),
        ({"output": "out.seg.nrrd"}, "BadRequest"),
        ({"slab": -1}, "BadRequest"),
        ({"reference": "nowhere.nrrd"}, "UnreadableVolume"),
        ({"bundle": "nowhere"}, "BadBundle"),
        ({"device": "toaster"}, "UnavailableDevice"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(folder: Path, change: Message, kind: str) -> None:
    reply = answer_to(sweep_request(folder, **change))
    assert (reply["type"], reply["kind"]) == ("error", kind)


# Devices, regions, packages


def test_the_devices_of_this_machine_are_listed_and_can_be_picked() -> None:
    reply = answer_to({"type": "devices", "id": "d"})
    names = [device["name"] for device in reply["devices"]]
    assert (names[0], names[-1]) == ("auto", "cpu")
    for name in names:
        devices.pick_device(name)


def test_a_gpu_is_listed_with_its_memory_or_with_why_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def memory(number: int) -> tuple[int, int]:
        if number:
            raise RuntimeError("CUDA error: all CUDA-capable devices are busy\nmore")
        return 3 * 2**30, 8 * 2**30

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"GPU {number}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", memory)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert devices.devices_here() == {
        "auto": "Automatic",
        "cuda:0": "GPU 0 (3.0 of 8.0 GiB free)",
        "cuda:1": "GPU 1 (not usable now: CUDA error: all CUDA-capable devices are busy)",
        "mps": "Apple GPU",
        "cpu": "CPU",
    }


def test_a_region_of_interest_limits_what_is_segmented(folder: Path) -> None:
    roi = Box.from_values({"centre": [0, 0, 0], "axes": np.eye(3).tolist(), "sides": [24, 24, 24]})
    asked = request(folder / "image.nrrd", "r", roi=roi.as_values())
    reply = answer_to(asked)
    assert json.loads(reply["provenance"]["roi"]) == json.loads(roi.text())
    bounds, _ = roi.voxels_in(read_volume(Path(asked["output"])).geometry)
    found = np.argwhere(read_volume(Path(asked["output"])).array)[:, ::-1]
    assert len(found)
    assert all(found[:, axis].min() in b and found[:, axis].max() in b for axis, b in enumerate(bounds))
    far = {**roi.as_values(), "centre": [999, 0, 0]}
    assert answer_to(request(folder / "image.nrrd", "r", roi=far))["kind"] == "BadRegion"


@pytest.mark.parametrize("kind", ["segment", "sweep", "devices"])
def test_what_computes_is_refused_with_a_package_that_will_not_do(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise UnsuitablePackage("PyTorch 2.9.0 ...")

    monkeypatch.setattr(answers, "check_computing", refuse)
    asked = {"segment": request(folder / "image.nrrd"), "sweep": sweep_request(folder)}
    assert answer_to(asked.get(kind, {"type": kind, "id": "d"}))["kind"] == "UnsuitablePackage"


# Any garbage


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", REQUESTS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_request_with_any_values_is_a_request_or_a_bad_one(kind: str, data: st.DataObject) -> None:
    good: dict[str, Message] = {
        "segment": {"bundle": "b", "inputs": ["i"], "output": "o", "roi": {"centre": [0, 0, 0]}},
        "sweep": {"bundle": "b", "inputs": ["i"], "scales": [1], "reference": "r", "roi": None},
        "compare": {"a": "a", "b": "b", "names": NAMES, "output": "o", "against_reference": True},
        "devices": {},
    }
    message = {"type": kind, "id": "x", **good[kind]}
    for key in data.draw(st.lists(st.sampled_from(sorted(good[kind]) or ["more"]), max_size=3)):
        if data.draw(st.booleans()):
            message.pop(key, None)
        else:
            message[key] = data.draw(VALUES)
    with contextlib.suppress(BadRequest):
        assert type(request_from(read_message(json.dumps(message).encode()))) is REQUESTS[kind]


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_request_that_lacks_a_key_is_told_which(folder: Path, kind: str) -> None:
    complete = {
        "segment": request(folder / "image.nrrd"),
        "sweep": sweep_request(folder),
        "compare": compare_request(folder, folder / "map.seg.nrrd"),
        "devices": {"type": "devices", "id": "d"},
    }[kind]
    optional = {"type", "id", "against_reference", "reference", "roi", "device", "slab"}
    for key in complete.keys() - optional:
        lacking = {name: value for name, value in complete.items() if name != key}
        with pytest.raises(BadRequest, match=f"the key '{key}' is missing"):
            request_from(lacking)
    assert type(request_from(complete)) is REQUESTS[kind]
