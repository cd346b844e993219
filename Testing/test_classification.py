"""Pictures are classified, in any pose alike where the network promises it, or refused with the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from ScaleEquivSegLib.bundles import CARD, Bundle, bundled_models, find_bundles, read_bundle
from ScaleEquivSegLib.card import SEAL
from ScaleEquivSegLib.classification import classify, load_classifier, working_picture
from ScaleEquivSegLib.cli import main as command_line
from ScaleEquivSegLib.errors import BadBundle, UnreadableVolume, UnsuitableVolume
from ScaleEquivSegLib.segmentation import load_model
from ScaleEquivSegLib.volume import Volume, make_geometry, read_slice, write_volume
from small_pictures import answers_in_every_pose, picture, untrained_bundle

SCHEMA = json.loads((bundled_models() / "card.schema.json").read_text())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A dynamic classifier."""
    return untrained_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.mark.parametrize("family", ["static", "dynamic"])
def test_no_pose_changes_what_a_bundle_answers(family: str, tmp_path: Path) -> None:
    answers = answers_in_every_pose(untrained_bundle(tmp_path, family))
    assert np.abs(answers - answers[0]).max() < 1e-5
    assert answers[0].max() < 1 - 1e-3  # not so sure that nothing could change it


def test_poses_change_what_an_ordinary_network_answers(tmp_path: Path) -> None:
    answers = answers_in_every_pose(untrained_bundle(tmp_path, "plain"))
    assert np.abs(answers - answers[0]).max() > 1e-3


def test_the_central_square_is_shown_in_millimetres_whichever_axis_is_thin(bundle: Bundle) -> None:
    wide = picture((16, 24))
    square = Volume(wide.array[:, :, 4:20], make_geometry((16, 16, 1), (1, 1, 2), np.eye(3), (0, 0, 0)))
    shown = working_picture(square, bundle)
    assert shown.shape == (1, 16, 16)
    assert torch.allclose(working_picture(wide, bundle), shown, atol=1e-5)
    assert torch.allclose(working_picture(picture((16, 24), thin=0), bundle), shown, atol=1e-5)
    assert torch.allclose(working_picture(picture((16, 24), thin=1), bundle), shown, atol=1e-5)
    # As many pixels, each half as wide: the square is now the whole width.
    narrow = working_picture(picture((16, 24), spacing=(0.5, 1.0)), bundle)
    assert not torch.allclose(narrow, shown, atol=0.1)


def test_what_lies_outside_the_square_is_told(bundle: Bundle) -> None:
    model = load_classifier(bundle)
    assert classify(picture((20, 20)), model, "cpu").warnings == ()
    (told,) = classify(picture((20, 40)), model, "cpu").warnings
    assert told.startswith("50% of the picture")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda p: np.full((1, 30, 41), 0.1, np.float32), "same value everywhere"),
        (
            lambda p: np.tile(np.repeat([9.0, 0.1, 9.0], [15, 30, 15]), (1, 20, 1)),
            "same value everywhere in its central",
        ),
        (lambda p: np.full_like(p, 7.0), "same value everywhere"),
        (lambda p: np.where(p == p.max(), np.nan, p), "NaN or infinite"),
        (lambda p: np.concatenate([p, p]), "20 x 20 x 2"),
        (lambda p: p[:, :1], "20 x 1 x 1"),
    ],
)
def test_a_picture_that_cannot_be_classified_is_refused(
    bundle: Bundle, spoil: Callable[[np.ndarray], np.ndarray], reason: str
) -> None:
    array = spoil(picture().array.astype(np.float32))
    geometry = make_geometry((array.shape[2], array.shape[1], array.shape[0]), (1, 1, 1), np.eye(3), (0, 0, 0))
    with pytest.raises(UnsuitableVolume, match=reason):
        classify(Volume(array, geometry), load_classifier(bundle), "cpu")


def test_weights_that_answer_with_no_number_are_an_error(bundle: Bundle) -> None:
    model = load_classifier(bundle)
    with torch.no_grad():
        model.network.lifting.norm.running_var.fill_(-1)
    with pytest.raises(BadBundle, match="no number"):
        classify(picture(), model, "cpu")


# PNG


def test_a_png_in_grey_or_in_equal_colours_is_the_picture_of_a_nrrd(tmp_path: Path) -> None:
    pixels = picture((20, 27)).array[0]
    grey = sitk.GetImageFromArray(pixels)
    sitk.WriteImage(grey, str(tmp_path / "grey.png"))
    sitk.WriteImage(sitk.Compose(grey, grey, grey), str(tmp_path / "colours.PNG"))
    write_volume(picture((20, 27)), tmp_path / "picture.nrrd")
    for name in ("grey.png", "colours.PNG", "picture.nrrd"):
        assert np.array_equal(read_slice(tmp_path / name).array, pixels[None])


def test_a_png_in_colours_or_cut_short_is_refused(tmp_path: Path) -> None:
    grey = sitk.GetImageFromArray(picture((60, 60)).array[0])
    sitk.WriteImage(sitk.Compose(grey, grey, 255 - grey), str(tmp_path / "colours.png"))
    with pytest.raises(UnsuitableVolume, match="grey"):
        read_slice(tmp_path / "colours.png")
    data = (tmp_path / "colours.png").read_bytes()
    for kept in (0, 20, len(data) // 2, len(data) - 40):
        (tmp_path / "cut.png").write_bytes(data[:kept])
        with pytest.raises(UnreadableVolume, match=r"cut\.png"):
            read_slice(tmp_path / "cut.png")


# Cards and doors


def test_the_card_of_a_classification_is_what_the_schema_describes(bundle: Bundle) -> None:
    jsonschema.validate(dict(bundle.card), SCHEMA)
    assert [each.name for each in bundle.classes] == ["benign", "malignant", "normal"]
    assert (bundle.kind, bundle.size, bundle.labels) == ("classification", 16, ())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda card: card.pop("kind"), "'labels' is missing"),
        (lambda card: card.pop("classes"), "'classes' is missing"),
        (lambda card: card.update(kind="detection"), "must not be 'detection'"),
        (lambda card: card.update(spacing=[1, 1, 1]), "has the key 'spacing'"),
        (lambda card: card.update(size=10**6), "at most 1024"),
        (lambda card: card["classes"][0].update(name="normal"), "2 classes have the name 'normal'"),
        (lambda card: card["network"].update(name="unet"), "'unet' is unknown for classification"),
        (lambda card: card["network"]["arguments"].update(classes=4), "a class for each"),
        (lambda card: card["network"]["arguments"].update(group="O_h"), "must not be 'O_h'"),
        (lambda card: card["inputs"].append({**card["inputs"][0], "name": "other"}), "takes one picture"),
    ],
)
def test_a_spoilt_card_of_a_classification_is_listed_with_its_reason(
    bundle: Bundle, tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    shutil.copytree(bundle.folder, tmp_path / "spoilt")
    card = json.loads((tmp_path / "spoilt" / CARD).read_text())
    card.pop(SEAL)
    change(card)
    (tmp_path / "spoilt" / CARD).write_text(json.dumps(card))
    found, (refused,) = find_bundles([tmp_path])
    assert not found
    assert reason in refused.reason


def test_a_huge_classifier_is_refused_before_its_memory_is_taken(bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.folder, tmp_path / "huge")
    card = json.loads((tmp_path / "huge" / CARD).read_text())
    card.pop(SEAL)
    card["network"]["arguments"].update(channels=[1024] * 8, kernels=32)  # 150 GiB
    (tmp_path / "huge" / CARD).write_text(json.dumps(card))
    with pytest.raises(BadBundle, match="cannot be loaded"):
        load_classifier(read_bundle(tmp_path / "huge"))


def test_each_door_sends_a_bundle_of_the_other_kind_away(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volume(picture(), tmp_path / "picture.nrrd")
    image, folder = str(tmp_path / "picture.nrrd"), str(bundle.folder)
    for command in (
        ["segment", image, "-o", str(tmp_path / "labels.nrrd"), "--bundle", folder],
        ["segment", "--cases", str(tmp_path), "-o", str(tmp_path / "results"), "--bundle", folder],
        ["scale-sweep", image, "--bundle", folder],
        ["compare", image, image, "--bundle", folder],
    ):
        assert command_line(command) == BadBundle.exit_code
        assert "is a model for classification, not for segmentation; use it with `classify`" in capsys.readouterr().err
    with pytest.raises(BadBundle, match="for classification"):
        load_model(bundle)
    assert command_line(["classify", image, "--bundle", "phantom-unet"]) == BadBundle.exit_code
    assert "is a model for segmentation" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["picture.nrrd"]


def test_classify_prints_probabilities_and_writes_them_with_where_they_come_from(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(picture().array[0]), str(tmp_path / "a.png"))
    write_volume(picture((30, 20)), tmp_path / "b.nii")
    images = [str(tmp_path / "a.png"), str(tmp_path / "b.nii")]
    table, text = tmp_path / "out.csv", tmp_path / "out.json"
    command = ["classify", *images, "--bundle", str(bundle.folder), "-o", str(table), "--json", str(text)]
    assert command_line(command) == 0
    said = json.loads(text.read_text())
    assert list(said) == images
    assert said[images[0]]["sha256"] == bundle.sha256
    assert said[images[0]]["bundle_version"] == bundle.version
    assert sum(value for key, value in said[images[1]].items() if key.startswith("probability.")) == pytest.approx(1)
    assert len(table.read_text().splitlines()) == 3
    assert "benign" in capsys.readouterr().out
    assert command_line(command) == 7  # nothing is overwritten

    (tmp_path / "bad.png").write_bytes(b"no picture")
    partial = ["classify", images[0], str(tmp_path / "bad.png"), "--bundle", str(bundle.folder)]
    assert command_line([*partial, "-o", str(tmp_path / "partial.csv")]) == UnreadableVolume.exit_code
    assert not (tmp_path / "partial.csv").exists()


def test_models_lists_and_checks_a_classification(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line(["models", "list", str(bundle.folder.parent), "--json", str(tmp_path / "list.json")]) == 0
    entry = next(e for e in json.loads((tmp_path / "list.json").read_text())["bundles"] if e["name"] == bundle.name)
    assert (entry["kind"], entry["classes"]) == ("classification", ["benign", "malignant", "normal"])
    assert command_line(["models", "check", str(bundle.folder)]) == 0
