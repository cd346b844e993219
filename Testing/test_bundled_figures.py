"""The figures in the cards of the bundled models are those that the sources of today measure: ordinary networks, which
take seconds, stand for all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ScaleEquivSegLib.bundles import bundled_models, read_bundle
from ScaleEquivSegLib.cli import main
from training.evaluate import evaluate

ROUNDING = 1e-3
"""Other processors round otherwise, and a voxel on the edge between two classes may change its side."""


def test_an_unseen_phantom_is_segmented_as_well_as_the_card_says(tmp_path: Path) -> None:
    main(["phantom", str(tmp_path / "unseen"), "--count", "20", "--seed", "500000"])
    check(bundled_models() / "phantom-unet", evaluate(bundled_models() / "phantom-unet", tmp_path / "unseen"))


@pytest.mark.skipif("SCALEEQUIVSEG_DATA" not in os.environ, reason="SCALEEQUIVSEG_DATA does not name a folder of data")
@pytest.mark.parametrize(
    ("bundle", "data", "scale"), [("hippocampus-unet", "hippocampus", 0.6), ("headneck-ct-unet", "headneck_ct", 0.8)]
)
def test_a_magnified_scan_is_segmented_as_well_as_the_card_says(bundle: str, data: str, scale: float) -> None:
    folder = bundled_models() / bundle
    check(folder, evaluate(folder, Path(os.environ["SCALEEQUIVSEG_DATA"]) / data, "val", (scale,)))


def check(folder: Path, measured: dict[str, float]) -> None:
    noted = read_bundle(folder).card["metrics"]
    assert measured["cases"] == noted["cases"]
    found = {name: figure for name, figure in measured.items() if name.startswith("dice")}
    assert found == pytest.approx({name: noted[name] for name in found}, abs=ROUNDING)
