"""The section Network, clicked: which networks can run, what their cards say, and folders with more models."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import qt
import slicer

from panel_user import QUICK, User
from ScaleEquivSegLib.bundles import bundled_models, read_bundle
from ScaleEquivSegLib.panel.card_text import card_as_html
from small_pictures import untrained_bundle
from test_bundles import change_card


def renamed(folder: Path, name: str, source: str = "phantom-unet", **changes: Any) -> Path:
    """A copy of a bundled model, the baseline unless another is named, in a folder under another name."""
    shutil.copytree(bundled_models() / source, folder / name)
    change_card(folder / name, lambda card: card.update(name=name, **changes))
    return folder / name


def add_models(user: User, folder: Path | str) -> None:
    """Press Add models… and choose a folder, or cancel by none."""
    user.ui.modelsBox.collapsed = False
    user.host.answer = str(folder)
    user.ui.addModelsButton.click()
    user.host.answer = True


def may_be_chosen(user: User) -> list[bool]:
    model = user.ui.networkSelector.model()
    return [bool(model.flags(model.index(row, 0)) & qt.Qt.ItemIsEnabled) for row in range(3)]


def test_the_card_of_what_runs_is_shown_in_full(user: User) -> None:
    shown = user.ui.detailsText.toPlainText()
    for name in ("phantom-se_unet", "phantom-unet"):
        card = read_bundle(bundled_models() / name).card
        data = card["training_data"]
        for said in (card["description"], card["intended_use"], card["limits"], card["licence"], *data.values()):
            assert said in shown
        assert f"{card['metrics']['dice.mean@1']:.3g}" in shown
    user.ui.networkSelector.currentText = "Baseline"
    assert "phantom-se_unet" not in user.ui.detailsText.toPlainText()
    assert "Limits" in user.ui.baselineModelSelector.toolTip
    assert "Limits" in user.ui.baselineModelSelector.itemData(0, qt.Qt.ToolTipRole)


def test_details_stay_where_they_were_scrolled_to_until_another_network_is_chosen(user: User) -> None:
    user.ui.detailsBox.collapsed = False
    user.host.process_events()
    bar = user.ui.detailsText.verticalScrollBar()
    bar.value = 40
    user.choose(user.load(QUICK), "Both")
    user.host.process_events()
    assert bar.value == 40
    user.ui.networkSelector.currentText = "Baseline"
    user.host.process_events()
    assert bar.value == 0


def test_a_model_that_tells_pictures_apart_is_shown_with_the_reason_why_it_is_not_offered(
    user: User, tmp_path: Path
) -> None:
    before = user.entries(user.ui.taskSelector)
    untrained_bundle(tmp_path)
    add_models(user, tmp_path)
    assert user.entries(user.ui.taskSelector) == before
    assert "It tells pictures apart, and finds nothing in volumes" in user.ui.refusedText.toPlainText()
    user.ui.removeModelsButton.click()
    assert user.ui.refusedText.isHidden()


def test_what_a_card_says_is_never_taken_for_html(tmp_path: Path) -> None:
    folder = renamed(tmp_path, "sly", limits="<img src='http://a/b.png'> & more", metrics={"<b>": 1.0})
    html = card_as_html(read_bundle(folder))
    assert "&lt;img src=&#x27;http://a/b.png&#x27;&gt; &amp; more" in html
    assert "<img" not in html
    assert "&lt;b&gt; 1" in html


def test_what_is_kept_in_one_piece_is_said(tmp_path: Path) -> None:
    folder = renamed(tmp_path, "whole", postprocessing=[])
    assert "largest piece" not in card_as_html(read_bundle(folder))
    change_card(folder, lambda card: card.update(postprocessing=[{"step": "largest_piece", "labels": ["Body"]}]))
    assert "<b>Only the largest piece is kept of:</b> Body</p>" in card_as_html(read_bundle(folder))


def test_of_figures_at_several_scales_the_mean_dice_is_said_of_each_and_the_rest_of_cases_as_they_are(
    tmp_path: Path,
) -> None:
    metrics = {"cases": 3.0, "dice.mean@0.5": 0.61, "hd95.mean@0.5": 7.5, "dice.mean@1": 0.82, "hd95.mean@1": 1.5}
    html = card_as_html(read_bundle(renamed(tmp_path, "swept", metrics=metrics)))
    assert "cases 3, dice.mean 0.82, hd95.mean 1.5</p>" in html
    assert "×0.5 0.61, ×1 0.82</p>" in html
    assert "7.5" not in html
    assert "by scale" not in card_as_html(read_bundle(renamed(tmp_path, "at-one", metrics={"dice.mean@1": 0.82})))


def test_time_and_memory_are_said_where_they_were_measured(tmp_path: Path) -> None:
    change_card(renamed(tmp_path, "unmeasured"), lambda card: card.pop("expected"))
    assert "Time and memory" not in card_as_html(read_bundle(tmp_path / "unmeasured"))
    expected = {"size": [181, 217, 181], "seconds": 12.3, "gib": 1.25, "machine": "two cores"}
    html = card_as_html(read_bundle(renamed(tmp_path, "measured", expected=expected)))
    assert "about 12 s and 1.2 GiB for 181 x 217 x 181 voxels on two cores" in html


def test_a_folder_of_models_is_added_remembered_and_removed(user: User, tmp_path: Path) -> None:
    renamed(tmp_path, "mine")
    add_models(user, tmp_path)
    assert user.entries(user.ui.baselineModelSelector) == ["mine", "phantom-unet"]
    assert user.entries(user.ui.foldersSelector) == [str(tmp_path)]
    again = User(user.host)
    assert again.entries(again.ui.foldersSelector) == [str(tmp_path)]
    again.ui.baselineModelSelector.currentText = "mine"
    again.ui.modelsBox.collapsed = False
    again.ui.removeModelsButton.click()
    assert again.entries(again.ui.baselineModelSelector) == ["phantom-unet"]
    assert again.ui.baselineModelSelector.currentText == "phantom-unet"
    assert not again.ui.removeModelsButton.enabled
    assert (tmp_path / "mine").is_dir()


def test_of_two_folders_of_models_the_chosen_one_is_removed(user: User, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        renamed(tmp_path / name, name)
        add_models(user, tmp_path / name)
    user.ui.modelsBox.collapsed = False
    assert user.ui.foldersSelector.currentText == str(tmp_path / "three")  # the last one added
    user.ui.foldersSelector.currentText = str(tmp_path / "two")
    user.ui.removeModelsButton.click()
    assert user.entries(user.ui.foldersSelector) == [str(tmp_path / name) for name in ("one", "three")]
    assert user.entries(user.ui.baselineModelSelector) == ["one", "phantom-unet", "three"]
    user.ui.removeModelsButton.click()
    user.ui.removeModelsButton.click()


def test_a_model_chosen_in_place_of_its_folder_is_found_too(user: User, tmp_path: Path) -> None:
    add_models(user, renamed(tmp_path, "mine"))
    assert "mine" in user.entries(user.ui.baselineModelSelector)
    user.ui.removeModelsButton.click()


@pytest.mark.parametrize(("kind", "source"), [("equivariant", "phantom-se_unet"), ("baseline", "phantom-unet")])
def test_of_several_models_of_a_kind_the_one_that_is_chosen_runs(
    user: User, tmp_path: Path, kind: str, source: str
) -> None:
    other = renamed(tmp_path, "other", source)
    add_models(user, tmp_path)
    worker = user.quicken()
    user.choose(user.load(QUICK), kind.capitalize())
    selector = getattr(user.ui, f"{kind}ModelSelector")
    assert user.entries(selector) == ["other", source]
    for name in ("other", source, "other"):
        selector.currentText = name
        user.start()
        user.wait()
        assert user.status == "Done."
    asked = [Path(request["bundle"]) for request in worker.segmented]
    assert [folder.name for folder in asked] == ["other", source, "other"]
    assert asked[0] == other
    user.ui.removeModelsButton.click()


def test_a_model_exported_anew_is_taken_as_it_is_now(user: User, tmp_path: Path) -> None:
    mine = renamed(tmp_path, "mine")
    add_models(user, tmp_path)
    user.ui.baselineModelSelector.currentText = "mine"
    user.quicken()
    user.choose(user.load(QUICK))
    labels = [{**label, "name": f"New {label['name']}"} for label in read_bundle(mine).card["labels"]]
    change_card(mine, lambda card: card.update(labels=labels, postprocessing=[]))
    user.start()
    user.wait()
    segmentation = user.results[-1].GetSegmentation()
    names = [segmentation.GetNthSegment(number).GetName() for number in range(2)]
    assert names == ["New Head", "New Body"]
    user.ui.removeModelsButton.click()


def test_what_was_put_into_a_folder_of_models_is_offered_when_the_module_is_entered_again(
    user: User, tmp_path: Path
) -> None:
    renamed(tmp_path, "mine")
    add_models(user, tmp_path)
    renamed(tmp_path, "other")
    assert "other" not in user.entries(user.ui.baselineModelSelector)
    user.widget.enter()
    assert "other" in user.entries(user.ui.baselineModelSelector)
    user.ui.removeModelsButton.click()


def test_no_other_model_runs_for_one_that_is_gone_when_a_button_is_pressed(user: User, tmp_path: Path) -> None:
    mine = renamed(tmp_path, "mine")
    add_models(user, tmp_path)
    worker = user.quicken()
    user.choose(user.load(QUICK))
    for button in (user.ui.segmentButton, user.ui.probeButton):
        user.ui.baselineModelSelector.currentText = "mine"
        mine.rename(tmp_path.with_name("elsewhere"))
        button.click()
        assert not user.running
        assert not worker.requests
        assert user.ui.networkNote.text.startswith("The scene names the model mine, which is not here; phantom-unet")
        tmp_path.with_name("elsewhere").rename(mine)
        user.widget.enter()
    user.ui.removeModelsButton.click()


def test_a_folder_without_models_is_not_added_and_says_why(user: User, tmp_path: Path) -> None:
    user.host.dialogs.clear()
    add_models(user, tmp_path)
    assert f"There is no model in {tmp_path}." in user.host.dialogs[-1].text
    add_models(user, "")
    assert user.entries(user.ui.foldersSelector) == []


def test_refused_models_are_listed_with_the_reason_also_when_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    (renamed(tmp_path, "bad") / "weights.safetensors").unlink()
    (tmp_path / "bad").rename(tmp_path / "bad & worse")
    monkeypatch.setattr("ScaleEquivSegLib.panel.models.bundled_models", lambda: tmp_path)
    user: User = request.getfixturevalue("user")
    assert user.status == "There is no model that can be used; see More models."
    assert not user.ui.modelsBox.collapsed
    assert not user.ui.refusedText.isHidden()
    assert "bad & worse:" in user.ui.refusedText.toPlainText()
    assert "weights.safetensors" in user.ui.refusedText.toPlainText()
    user.load(QUICK, "phantom")
    user.host.process_events()
    assert not user.ui.segmentButton.enabled


def test_where_nothing_was_refused_no_list_is_shown(user: User) -> None:
    assert user.ui.refusedText.isHidden()
    assert user.ui.modelsBox.collapsed


def test_a_scene_that_names_a_model_that_is_not_here_says_so_and_takes_the_default(user: User, tmp_path: Path) -> None:
    assert user.ui.networkNote.isHidden()
    user.parameters.baselineModel = "gone"
    assert user.ui.networkNote.text == (
        "The scene names the model gone, which is not here; phantom-unet is taken instead."
    )
    assert not user.ui.networkNote.isHidden()
    assert user.ui.baselineModelSelector.currentText == "phantom-unet"
    renamed(tmp_path, "gone")
    add_models(user, tmp_path)
    assert user.ui.baselineModelSelector.currentText == "gone"
    assert user.ui.networkNote.isHidden()
    user.ui.removeModelsButton.click()
    assert not user.ui.networkNote.isHidden()
    user.host.clear_scene()
    assert user.ui.networkNote.isHidden()


def test_a_scene_that_names_a_task_that_is_not_here_says_so(user: User) -> None:
    user.parameters.task = "moon"
    assert user.ui.taskNote.text == "There is no model for moon here; phantom is shown instead."
    assert not user.ui.taskNote.isHidden()
    assert user.ui.taskSelector.currentText == "phantom"


def test_a_task_with_one_kind_of_network_offers_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    renamed(tmp_path, "alone", task="alone")
    for name in ("phantom-unet", "phantom-se_unet"):
        shutil.copytree(bundled_models() / name, tmp_path / name)
    monkeypatch.setattr("ScaleEquivSegLib.panel.models.bundled_models", lambda: tmp_path)
    user: User = request.getfixturevalue("user")
    assert user.ui.taskSelector.currentText == "alone"
    assert user.ui.networkSelector.currentText == "Baseline"
    assert may_be_chosen(user) == [False, False, True]
    assert not user.ui.equivariantModelSelector.enabled
    user.ui.taskSelector.currentText = "phantom"
    assert may_be_chosen(user) == [True, True, True]
    assert user.ui.equivariantModelSelector.enabled


def test_the_panel_has_no_folder_of_an_earlier_test(user: User) -> None:
    assert slicer.app.settings().value("ScaleEquivSeg/ModelFolders") in (None, "")
