"""The section Segment, clicked: how to compute reaches the worker, devices are listed, packages are installed."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import pytest
import slicer
import slicer.util

from panel_user import QUICK, QuickWorker, User
from ScaleEquivSegLib.bundles import bundle_named
from ScaleEquivSegLib.errors import MissingPackage, SegmentationError, UnsuitablePackage
from ScaleEquivSegLib.mrml.segmentations import import_segmentation
from ScaleEquivSegLib.panel import installation, packages, phases, segment_section
from ScaleEquivSegLib.panel.segmenting import times_beside_each_other
from ScaleEquivSegLib.phantom import make_phantom
from ScaleEquivSegLib.requirements import REQUIREMENTS, Requirement, package_problems
from test_panel_network import add_models, renamed


@pytest.fixture
def quick(user: User) -> User:
    """A panel whose worker computes nothing, with a volume chosen."""
    user.quicken()
    user.choose(user.load(QUICK))
    user.host.dialogs.clear()
    user.host.answer = True
    return user


def worker_of(user: User) -> QuickWorker:
    worker = user.widget.panel.desk.worker
    assert isinstance(worker, QuickWorker)
    return worker


def set_planes(user: User) -> None:
    user.ui.planesSpinBox.value = 7


def set_mirror(user: User) -> None:
    user.ui.mirrorCheckBox.click()


def set_replacing(user: User) -> None:
    user.ui.replaceNonfiniteCheckBox.click()


def set_bfloat16(user: User) -> None:
    user.ui.precisionSelector.currentText = "Half (bfloat16)"


def set_float16(user: User) -> None:
    user.ui.precisionSelector.currentText = "Half (float16)"


def set_auto(user: User) -> None:
    user.ui.deviceSelector.currentText = "Auto"


@pytest.mark.parametrize(
    ("use", "key", "value", "otherwise"),
    [
        (set_planes, "slab", 7, None),
        (set_mirror, "mirror", True, False),
        (set_replacing, "replace_nonfinite", True, False),
        (set_bfloat16, "precision", "bfloat16", "float32"),
        (set_float16, "precision", "float16", "float32"),
        (set_auto, "device", "auto", "cpu"),
    ],
)
def test_each_control_of_advanced_reaches_the_worker(
    quick: User, use: Callable[[User], None], key: str, value: Any, otherwise: Any
) -> None:
    quick.ui.advancedBox.collapsed = False
    worker_of(quick).answers = False
    quick.start()
    quick.widget.panel.stop("")
    use(quick)
    quick.start()
    quick.widget.panel.stop("")
    assert [request[key] for request in worker_of(quick).segmented] == [otherwise, value]


GPUS = [
    {"name": "auto", "label": "Automatic"},
    {"name": "cuda:0", "label": "H200 (100.0 of 139.0 GiB free)"},
    {"name": "cuda:1", "label": "H200 (100.0 of 139.0 GiB free)"},
    {"name": "mps", "label": "Apple GPU"},
    {"name": "cpu", "label": "CPU"},
]


def test_devices_are_asked_for_when_advanced_is_opened_and_not_before(quick: User) -> None:
    worker_of(quick).devices = GPUS
    assert quick.entries(quick.ui.deviceSelector) == ["Auto", "CPU"]
    assert worker_of(quick).requests == []
    quick.ui.advancedBox.collapsed = False
    quick.host.process_events()
    assert quick.entries(quick.ui.deviceSelector) == [
        "Auto",
        "cuda:0: H200 (100.0 of 139.0 GiB free)",
        "cuda:1: H200 (100.0 of 139.0 GiB free)",
        "MPS (Apple GPU)",
        "CPU",
    ]
    quick.ui.deviceSelector.setCurrentIndex(2)
    assert quick.parameters.device == "cuda:1"
    assert quick.ui.deviceSelector.currentIndex == 2
    quick.start()
    quick.wait()
    assert worker_of(quick).segmented[0]["device"] == "cuda:1"


def test_devices_that_a_cancelled_run_left_unknown_are_asked_for_with_the_next_one(quick: User) -> None:
    worker = worker_of(quick)
    worker.devices, worker.answers = GPUS, False
    quick.ui.advancedBox.collapsed = False
    quick.start()
    quick.widget.panel.stop("Cancelled.")
    worker.answers = True
    quick.start()
    quick.wait()
    quick.host.process_events()
    assert "MPS (Apple GPU)" in quick.entries(quick.ui.deviceSelector)
    asked = [request["type"] for request in worker.requests]
    assert asked == ["devices", "segment", "segment", "devices"]
    quick.start()
    quick.wait()
    assert worker.requests[-1]["type"] == "segment"


def test_devices_that_were_asked_for_anew_meanwhile_are_not_asked_for_again(quick: User) -> None:
    worker = worker_of(quick)
    worker.devices, worker.answers = GPUS, False
    quick.ui.advancedBox.collapsed = False
    quick.widget.panel.stop("")
    worker.answers = True
    quick.ui.advancedBox.collapsed = True
    quick.ui.advancedBox.collapsed = False
    quick.host.process_events()
    quick.start()
    quick.wait()
    assert [request["type"] for request in worker.requests] == ["devices", "devices", "segment"]


def test_while_something_runs_nothing_that_it_depends_on_can_be_changed(quick: User, tmp_path: Path) -> None:
    add_models(quick, renamed(tmp_path, "mine"))
    worker_of(quick).answers = False
    ui = quick.ui
    controls = (
        *(ui.equivariantOutputSelector, ui.baselineOutputSelector, ui.networkSelector),
        *(ui.equivariantModelSelector, ui.baselineModelSelector, ui.removeModelsButton),
    )
    for button in (ui.segmentButton, ui.probeButton):
        assert all(control.enabled for control in controls)
        button.click()
        assert not any(control.enabled for control in controls)
        assert all(control.enabled for control in (ui.networkSection, ui.detailsBox, ui.addModelsButton))
        quick.widget.panel.stop("Done.")
    ui.removeModelsButton.click()


def test_the_devices_are_those_that_the_worker_itself_finds(user: User) -> None:
    user.ui.advancedBox.collapsed = False
    assert user.host.wait_until(lambda: not user.widget.panel.desk._asked, 120)
    assert user.entries(user.ui.deviceSelector)[0] == "Auto"
    assert user.entries(user.ui.deviceSelector)[-1] == "CPU"
    assert user.ui.logText.toPlainText() == ""


def test_a_device_of_another_machine_is_shown_as_not_found_and_kept(quick: User) -> None:
    quick.parameters.device = "cuda:3"
    assert quick.ui.deviceSelector.currentText == "cuda:3 (not found so far)"
    # A narrow panel cuts it off.
    assert quick.ui.deviceSelector.toolTip == f"cuda:3 (not found so far)\n{quick.ui.deviceSelector.whatsThis}"
    assert quick.parameters.device == "cuda:3"


def test_the_log_keeps_the_outcome_of_every_run_and_is_bounded(quick: User) -> None:
    quick.start()
    quick.wait()
    quick.start()
    quick.wait()
    assert quick.ui.logText.toPlainText().splitlines() == ["Done.", "Done."]
    assert quick.ui.logText.maximumBlockCount == 1000


def test_slicer_keeps_the_log_when_the_panel_is_gone(quick: User, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ScaleEquivSeg"):
        quick.start()
        quick.wait()
    assert [record.message for record in caplog.records] == ["Done."]


def test_until_the_worker_tells_of_a_run_it_is_said_to_start_and_not_how_the_last_one_ended(quick: User) -> None:
    quick.start()
    quick.wait()
    assert quick.status == "Done."
    worker_of(quick).answers = False
    for button, label in ((quick.ui.segmentButton, "statusLabel"), (quick.ui.probeButton, "probeStatusLabel")):
        button.click()
        assert quick.status == getattr(quick.ui, label).text == "Starting…"
        quick.widget.panel.stop("Done.")


def test_progress_is_shown_in_percent_with_phase_and_time_left(quick: User) -> None:
    worker_of(quick).answers = False
    quick.start()
    job = quick.widget.panel.desk._job
    told = {"type": "progress", "id": job.id, "phase": "Segmenting", "fraction": 0.42, "remaining_s": 12.0}
    job.receive(told)
    assert quick.status == "phantom-unet: Segmenting, about 12 s left (42 %)"
    assert quick.ui.progressBar.value == 42
    assert quick.ui.progressBar.text == "42%"
    quick.ui.cancelButton.click()
    job.receive(told)  # from before the worker heard of it
    assert quick.status == "Cancelling…"
    quick.widget.panel.stop("")


@pytest.mark.parametrize("button", ["segmentButton", "probeButton"])
def test_of_two_networks_the_one_that_takes_longer_by_its_card_has_more_of_the_bar(quick: User, button: str) -> None:
    worker_of(quick).answers = False
    quick.ui.networkSelector.currentText = "Both"
    getattr(quick.ui, button).click()
    job = quick.widget.panel.desk._job
    slow, fast = (bundle_named(name).card["expected"]["seconds"] for name in ("phantom-se_unet", "phantom-unet"))
    job.receive({"type": "progress", "id": job.id, "phase": "Segmenting", "fraction": 1.0, "remaining_s": None})
    assert quick.ui.progressBar.value == pytest.approx(100 * slow / (slow + fast), abs=1)
    assert quick.ui.progressBar.value > 90
    quick.widget.panel.stop("")


@pytest.mark.parametrize("expected", [None, {"seconds": 0, "size": [8, 8, 8]}])
def test_where_a_card_says_no_time_both_networks_have_half_of_the_bar(expected: dict[str, Any] | None) -> None:
    one, other = bundle_named("phantom-se_unet"), bundle_named("phantom-unet")
    card = {key: value for key, value in one.card.items() if key != "expected"}
    silent = replace(one, card=card if expected is None else {**card, "expected": expected})
    assert times_beside_each_other([silent, other]) == [1.0, 1.0]


@pytest.mark.parametrize(
    "phase",
    [
        *("Starting", "Loading the network", "Reading", "Preparing", "Segmenting", "Writing"),
        *("Comparing", "Unscaled", "Scale 0.5"),
    ],
)
def test_what_the_worker_does_is_said_in_the_language_of_slicer(
    quick: User, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    monkeypatch.setattr(phases, "_", lambda text: f"translated {text}")
    worker_of(quick).answers = False
    quick.start()
    job = quick.widget.panel.desk._job
    told = {"type": "progress", "id": job.id, "phase": phase, "fraction": 0.5, "remaining_s": None}
    job.receive(told)
    assert quick.status.startswith(f"phantom-unet: translated {phase} (")
    job.receive({**told, "phase": "Something new"})
    assert quick.status == "phantom-unet: Something new (50 %)"
    quick.widget.panel.stop("")


# Installation


class Shelf:
    """What is installed, and what was done to install more, in the place of pip and other extensions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.problems: dict[str, SegmentationError] = {
            "torch": UnsuitablePackage("PyTorch 2.9.1 computes too slowly."),
            "safetensors": MissingPackage("The Python package safetensors is not installed."),
        }
        self.done: list[Any] = []
        monkeypatch.setattr(packages, "package_problems", lambda: list(self.problems.values()))
        for module in (packages, segment_section):
            monkeypatch.setattr(module, "unmet", self.unmet)
        monkeypatch.setattr(installation, "check_packages", self.check)
        monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
        monkeypatch.setitem(sys.modules, "slicer.packaging", None)
        monkeypatch.setattr(slicer.util, "pip_install", self.pip_install)

    def unmet(self) -> list[Requirement]:
        return [each for each in REQUIREMENTS if each.package in self.problems]

    def check(self) -> None:
        for problem in self.problems.values():
            raise problem

    def pip_install(self, requirements: list[str]) -> None:
        self.done.append(("pip_install", requirements))
        del self.problems["safetensors"]

    def with_pip_ensure(self) -> None:
        """Slicer 5.12 and newer."""

        def pip_ensure(requirements: list[str], prompt_install: bool = True, requester: str | None = None) -> None:
            assert not prompt_install, "the user has been asked already"
            self.done.append(("pip_ensure", requirements, requester))
            del self.problems["safetensors"]

        module: Any = types.ModuleType("slicer.packaging")
        module.pip_ensure = pip_ensure
        self.monkeypatch.setitem(sys.modules, "slicer.packaging", module)

    def with_extension(self, install: Callable[[], Any] = object) -> None:
        """The PyTorch extension, whose way to install is given."""
        shelf = self

        class PyTorchUtilsLogic:
            def installTorch(
                self,
                askConfirmation: bool = False,
                forceComputationBackend: Any = None,
                torchVersionRequirement: Any = None,
            ) -> Any:
                assert not askConfirmation, "the user has been asked already"
                shelf.done.append(("installTorch", torchVersionRequirement))
                torch = install()
                if torch is not None:
                    del shelf.problems["torch"]
                return torch

        module: Any = types.ModuleType("PyTorchUtils")
        module.PyTorchUtilsLogic = PyTorchUtilsLogic
        self.monkeypatch.setitem(sys.modules, "PyTorchUtils", module)


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return Shelf(monkeypatch)


def test_nothing_is_installed_or_asked_before_segment_is_pressed(shelf: Shelf, quick: User) -> None:
    quick.ui.advancedBox.collapsed = False
    assert quick.host.dialogs == []
    assert worker_of(quick).requests == []
    assert quick.ui.segmentButton.enabled


def test_one_question_says_what_is_missing_and_how_large_it_is(shelf: Shelf, quick: User) -> None:
    shelf.with_extension()
    quick.start()
    quick.wait()
    (question,) = quick.host.dialogs
    assert "Slicer may not respond" in question.text  # it waits for each line that pip prints
    for said in ("PyTorch (about 200 MB, or up to 2.5 GB with an NVIDIA GPU)", "safetensors", "PyTorch 2.9.1"):
        assert said in question.text
    assert "missing or do not fit" in question.text
    assert "through Slicer's PyTorch extension." in question.text
    assert quick.status == "Done."
    assert shelf.done == [("pip_install", ["safetensors>=0.4.3"]), ("installTorch", ">=2.2.2,!=2.9.*")]
    assert worker_of(quick).stops == 1  # one that runs already knows nothing of what was installed
    assert len(quick.results) == 1
    quick.start()
    quick.wait()
    assert len(quick.host.dialogs) == 1


def test_the_devices_are_asked_for_when_what_finds_them_was_installed(shelf: Shelf, quick: User) -> None:
    shelf.with_extension()
    worker_of(quick).devices = GPUS
    quick.ui.advancedBox.collapsed = False
    quick.host.process_events()
    assert quick.entries(quick.ui.deviceSelector) == ["Auto", "CPU"]
    quick.start()
    quick.wait()
    assert quick.status == "Done."
    assert len(quick.entries(quick.ui.deviceSelector)) == 5


def test_the_question_says_what_is_wrong_and_not_what_to_do_by_hand() -> None:
    installed = {"torch": "2.9.1", "safetensors": None}
    asked = installation.question(REQUIREMENTS, package_problems(installed.get))
    assert "PyTorch 2.9.1 computes 3D convolutions under autocast many times slower" in asked
    assert "The Python package safetensors is not installed." in asked
    assert "pip" not in asked


def test_slicer_5_12_installs_by_its_own_packaging(shelf: Shelf, quick: User) -> None:
    del shelf.problems["torch"]
    shelf.with_pip_ensure()
    quick.start()
    quick.wait()
    assert shelf.done == [("pip_ensure", ["safetensors>=0.4.3"], "ScaleEquivSeg")]
    assert quick.status == "Done."


def test_who_declines_is_told_so_and_asked_again_at_the_next_press(shelf: Shelf, quick: User) -> None:
    quick.host.answer = False
    quick.ui.segmentButton.click()
    assert quick.status == "Not installed: PyTorch, safetensors. Press the button to be asked again."
    assert shelf.done == []
    assert quick.ui.segmentButton.enabled
    quick.ui.segmentButton.click()
    assert len(quick.host.dialogs) == 2
    quick.host.answer = True


def test_without_the_pytorch_extension_that_is_installed_and_a_restart_asked_for(
    shelf: Shelf, quick: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    model = slicer.app.extensionsManagerModel()

    class Manager:
        interactive = True

        def installExtensionFromServer(self, name: str, restart: bool = True) -> bool:
            asked.append((name, restart, self.interactive))
            return True

    manager = Manager()
    monkeypatch.setattr(type(slicer.app), "extensionsManagerModel", lambda self: manager)
    quick.ui.segmentButton.click()
    assert "PyTorch extension, which is installed first: Slicer must be restarted" in quick.host.dialogs[0].text
    assert asked == [("PyTorch", False, False)]
    assert manager.interactive
    assert quick.status.startswith("The PyTorch extension was installed. Restart Slicer")
    monkeypatch.setattr(type(slicer.app), "extensionsManagerModel", lambda self: model)
    quick.ui.segmentButton.click()  # on a machine without network
    assert "could not be installed" in quick.status
    assert "Extensions Manager" in quick.status
    assert not quick.running


def no_network() -> Any:
    raise CalledProcessError(1, ["pip", "install", "torch"])


@pytest.mark.parametrize(
    ("install", "said"),
    [(no_network, "returned non-zero exit status 1"), (lambda: None, "the PyTorch extension did not install it")],
)
def test_an_installation_that_fails_says_what_happened_and_what_to_do(
    shelf: Shelf, quick: User, install: Callable[[], Any], said: str
) -> None:
    shelf.with_extension(install)
    quick.ui.segmentButton.click()
    assert said in quick.status
    assert "restart Slicer, and press the button again" in quick.status
    assert not quick.running
    assert quick.ui.progressBar.isHidden()
    assert (quick.ui.progressBar.minimum, quick.ui.progressBar.maximum) == (0, 100)
    shelf.with_extension()
    quick.start()
    quick.wait()
    assert quick.status == "Done."


def test_a_version_that_will_still_not_do_after_the_installation_is_reported(shelf: Shelf, quick: User) -> None:
    del shelf.problems["safetensors"]
    shelf.with_extension(
        lambda: shelf.problems.update(again=UnsuitablePackage("PyTorch is 2.9 as before.")) or object()
    )
    quick.ui.segmentButton.click()
    assert quick.status == "PyTorch is 2.9 as before."
    assert not quick.running


def test_the_scale_probe_asks_for_packages_too_and_says_itself_what_became_of_that(shelf: Shelf, quick: User) -> None:
    quick.host.answer = False
    quick.ui.probeButton.click()
    assert [dialog.kind for dialog in quick.host.dialogs] == ["question"]
    assert worker_of(quick).requests == []
    assert quick.ui.probeStatusLabel.text.startswith("Not installed: PyTorch, safetensors.")
    quick.host.answer = True
    shelf.with_extension(no_network)
    quick.ui.probeButton.click()
    assert "returned non-zero exit status 1" in quick.ui.probeStatusLabel.text
    assert quick.ui.probeStatusLabel.text == quick.status


def test_nothing_can_be_started_while_packages_are_installed(shelf: Shelf, quick: User) -> None:
    classes, labels = bundle_named("phantom-unet").labels, make_phantom(QUICK).labels
    volume, seen = quick.channel_selector().currentNode(), []
    for selector in (quick.ui.comparedASelector, quick.ui.comparedBSelector):
        selector.setCurrentNode(import_segmentation(labels, classes, volume, "found"))
    buttons = [quick.ui.segmentButton, quick.ui.compareButton, quick.ui.probeButton]
    assert all(button.enabled for button in buttons)

    def install() -> Any:
        slicer.app.processEvents()  # as pip does for every line it prints
        seen.append((quick.status, quick.ui.progressBar.maximum, slicer.app.overrideCursor() is not None))
        for button in buttons:
            assert not button.enabled
            assert button.toolTip == "Packages are being installed."
        return no_network()

    shelf.with_extension(install)
    quick.start()
    assert seen == [("Installing PyTorch; this can take minutes, in which Slicer may not respond…", 0, True)]
    assert "returned non-zero exit status 1" in quick.status
    assert all(button.enabled for button in buttons)
    assert slicer.app.overrideCursor() is None


def test_a_scene_closed_during_the_installation_ends_it_without_a_run(shelf: Shelf, quick: User) -> None:
    def install() -> Any:
        quick.host.clear_scene()
        return object()

    shelf.with_extension(install)
    quick.start()
    assert not quick.running
    assert worker_of(quick).segmented == []
    assert quick.status == "Choose a volume."
