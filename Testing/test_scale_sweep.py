"""The command line: sweeps over scales, also of volumes that are not quite in order."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_user import segment, two_phantoms
from ScaleEquivSegLib import scale_sweep, segmentation
from ScaleEquivSegLib.bundles import bundled_models, read_bundle
from ScaleEquivSegLib.cli import main
from ScaleEquivSegLib.comparison import dice
from ScaleEquivSegLib.errors import UnsuitableVolume
from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom
from ScaleEquivSegLib.volume import read_volume, write_volume


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_phantoms(tmp_path_factory.mktemp("phantoms"))


def test_a_sweep_computes_as_its_options_say(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[segmentation.Settings] = []

    def spy(channels: object, model: object, scales: object, reference: object, settings: Any, *others: object) -> None:
        used.append(settings)
        raise UnsuitableVolume("enough")

    monkeypatch.setattr(scale_sweep, "scale_sweep", spy)
    image = str(folder / "images" / "phantom_000005.nrrd")
    assert main(["scale-sweep", image, "--bundle", "phantom-unet", "--mirror", "--precision", "bfloat16"]) == 4
    assert used == [segmentation.Settings(mirror=True, precision="bfloat16")]


def test_a_sweep_of_two_bundles_is_a_table_with_dice_one_where_nothing_is_rescaled(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, reference = (str(folder / kind / "phantom_000005.nrrd") for kind in ("images", "labels"))
    arguments = ["scale-sweep", image, "--bundle", "phantom-se_unet", "--bundle", "phantom-unet", "--device", "cpu"]
    arguments += ["--scales", "0.5,1", "--csv", str(tmp_path / "t.csv"), "--json", str(tmp_path / "t.json")]
    assert main([*arguments, "--reference", reference]) == 0
    figures = json.loads((tmp_path / "t.json").read_text())
    with (tmp_path / "t.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    hashes = {read_bundle(bundled_models() / name).sha256 for name in ("phantom-unet", "phantom-se_unet")}
    assert {row["weights_sha256"] for row in rows} == hashes
    assert [(row["bundle"], row["scale"], row["label"]) for row in rows] == [
        (bundle, scale, label)
        for bundle in ("phantom-se_unet", "phantom-unet")
        for scale in ("0.5", "1")
        for label in ("Head", "Body")
    ]
    for row in rows:
        for key in ("dice_with_itself", "dice_with_reference"):
            assert figures[f"{row['bundle']}.{key}.{row['label']}@{row['scale']}"] == float(row[key])
    for bundle in ("phantom-se_unet", "phantom-unet"):
        assert figures[f"{bundle}.dice_with_itself@1"] == 1
        assert figures[f"{bundle}.dice_with_itself@0.5"] < 1
        assert segment(folder, tmp_path / f"{bundle}.nrrd", "--bundle", bundle) == 0
        found, wanted = read_volume(tmp_path / f"{bundle}.nrrd"), read_volume(Path(reference))
        mean = np.mean([dice(found.array == value, wanted.array == value) for value in (1, 2)])
        assert figures[f"{bundle}.dice_with_reference@1"] == pytest.approx(mean)
    assert "x0.5" in capsys.readouterr().out


def test_a_bundle_is_swept_once(folder: Path) -> None:
    image = str(folder / "images" / "phantom_000005.nrrd")
    assert main(["scale-sweep", image, "--bundle", "phantom-unet", "--bundle", "phantom-unet"]) == 5


def test_what_is_no_number_is_replaced_before_it_is_magnified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = make_phantom(PhantomSpec(seed=5, size=(40, 40, 40))).channels[0]
    holes, filled = volume.array.astype(np.float32), volume.array.astype(np.float32)
    holes[::4], filled[::4] = np.nan, volume.array.min()
    figures = []
    for name, array in {"holes": holes, "filled": filled}.items():
        image, found = tmp_path / f"{name}.nrrd", tmp_path / f"{name}.json"
        write_volume(replace(volume, array=array), image)
        sweep = ["scale-sweep", str(image), "--bundle", "phantom-unet", "--scales", "0.7,1.4", "--json", str(found)]
        if name == "holes":
            assert main(sweep) == 4
            assert "NaN or infinite" in capsys.readouterr().err
        assert main([*sweep, "--replace-nonfinite"]) == 0
        figures.append({key: value for key, value in json.loads(found.read_text()).items() if "sha256" not in key})
    assert figures[0] == figures[1]
