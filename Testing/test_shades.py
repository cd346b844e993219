"""Shades: percentiles do not mind the scale of values, Hounsfield units mean one shade in every volume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ScaleEquivSegLib.bundles import Bundle, bundled_models, read_bundle
from ScaleEquivSegLib.inputs import suitable
from ScaleEquivSegLib.shades import Hounsfield, Percentiles, read_normalisation, stored_from_zero
from ScaleEquivSegLib.volume import Geometry, Volume
from training.export import read_card_text

CT = Path(__file__).parents[1] / "training" / "configs" / "headneck_ct.card.yaml"
WINDOW = Hounsfield(-160, 240)


def a_scan(seed: int = 0) -> np.ndarray:
    """A body of soft tissue with some bone, in air, in Hounsfield units."""
    random = np.random.default_rng(seed)
    scan = np.full((12, 20, 20), -1000.0)
    scan[:, 4:16, 4:16] = random.normal(40, 30, (12, 12, 12))
    scan[:, 8:10, 8:10] = 900
    return scan.round().astype(np.int16)


@pytest.fixture(scope="module")
def ct_bundle() -> Bundle:
    phantom = read_bundle(bundled_models() / "phantom-unet")
    return replace(phantom, inputs=(replace(phantom.inputs[0], normalisation=WINDOW),))


@pytest.mark.parametrize(("factor", "shift"), [(1.0, 0.0), (40.0, -3.0), (0.001, 1e4), (1e6, 0.0), (1e-12, 0.0)])
def test_percentiles_show_any_linear_scale_of_values_alike(factor: float, shift: float) -> None:
    values = np.random.default_rng(0).normal(size=(9, 9, 9))
    shown = Percentiles(1, 99).of(values)(values)
    other = values * factor + shift
    assert np.allclose(Percentiles(1, 99).of(other)(other), shown, atol=1e-5)
    assert np.percentile(shown[shown > shown.min()], [1, 99]) == pytest.approx([0, 1], abs=1e-5)


@pytest.mark.parametrize("surroundings", [0.0, -1000.0])
def test_what_surrounds_a_scan_does_not_change_its_shades(surroundings: float) -> None:
    scan = np.random.default_rng(0).uniform(1, 2, (9, 9, 9))
    wider = np.pad(scan, 9, constant_values=surroundings)
    assert np.array_equal(Percentiles(1, 99).of(wider)(scan), Percentiles(1, 99).of(np.pad(scan, 1))(scan))


@pytest.mark.parametrize("stored", [np.float32, np.int16])
def test_a_few_voxels_darker_than_what_surrounds_a_scan_do_not_change_its_shades(stored: type) -> None:
    scan = np.random.default_rng(0).uniform(100, 200, (9, 9, 9))
    wider = np.pad(scan, 3).astype(stored)
    wanted = Percentiles(1, 99).of(wider)
    wider[0, 0, :20] = -5
    assert Percentiles(1, 99).of(wider) == wanted


def test_values_that_many_voxels_have_within_a_scan_are_no_surroundings() -> None:
    scan = np.random.default_rng(0).uniform(100, 200, (9, 9, 9))
    scan[:2], scan[5:8] = 120, 150  # no voxel and a tenth of them below, and the other way round
    assert Percentiles(1, 99).of(scan)(np.array([scan.min()]))[0] == pytest.approx(0, abs=0.05)


def test_a_mask_has_the_shades_of_its_two_values() -> None:
    mask = np.pad(np.ones((3, 3, 3)), 3)
    assert np.array_equal(Percentiles(1, 99).of(mask)(mask), mask)


def test_one_voxel_gone_wrong_is_shown_no_further_away_than_ten_ranges() -> None:
    values = np.random.default_rng(0).uniform(size=(20, 20, 20))
    values[0, 0, :2] = -1e20, 1e20
    shown = Percentiles(1, 99).of(values)(values)
    assert shown[0, 0, :2].tolist() == [-10, 10]
    assert shown[1:].min() > -0.1


def test_a_window_takes_half_of_the_shades_and_padding_none() -> None:
    units = np.array([-3024, -1000, -580, -160, 40, 240, 1120, 2000, 30000], np.int16)
    shown = WINDOW.of(a_scan())(units)
    assert shown == pytest.approx([0, 0, 0.125, 0.25, 0.5, 0.75, 0.875, 1, 1])
    assert shown.dtype == np.float32


@pytest.mark.parametrize("cut", ["whole", "inside the body", "as floats", "noise in the air"])
def test_ct_as_stored_by_the_scanner_has_the_shades_of_its_hounsfield_units(cut: str) -> None:
    units = a_scan()
    if cut == "inside the body":
        units = units[:, 5:15, 5:15]
    if cut == "as floats":
        units = units.astype(np.float32)
    stored = np.maximum(units + 1000, 0)
    if cut == "noise in the air":
        stored[stored == 0] = np.random.default_rng(1).integers(0, 100, (stored == 0).sum())
        units = stored - 1000
    assert not stored_from_zero(units)
    assert stored_from_zero(stored)
    assert np.array_equal(WINDOW.of(stored)(stored), WINDOW.of(units)(units))


def test_what_ct_without_air_is_taken_to_be_is_said(ct_bundle: Bundle) -> None:
    grid = Geometry(a_scan().shape, np.eye(4))
    _, notes = suitable([Volume(a_scan(), grid)], ["one"], ct_bundle)
    assert notes == []
    _, notes = suitable([Volume(a_scan() + np.int16(1000), grid)], ["one"], ct_bundle)
    assert len(notes) == 1
    assert "water is taken to be 1000" in notes[0]
    crop = a_scan()[:, 5:15, 5:15]
    _, notes = suitable([Volume(crop, Geometry(crop.shape, np.eye(4)))], ["one"], ct_bundle)
    assert len(notes) == 1
    assert "water is taken to be 0" in notes[0]


def test_empty_and_constant_volumes_have_shades() -> None:
    assert not stored_from_zero(np.zeros((3, 3, 3)))
    for values in (np.zeros((3, 3, 3)), np.full((3, 3, 3), 1000)):
        assert np.isfinite(WINDOW.of(values)(values)).all()
        assert np.isfinite(Percentiles(1, 99).of(values)(values)).all()


def test_the_numbers_of_a_card_must_rise() -> None:
    with pytest.raises(ValueError, match="hounsfield 5, 5 must rise"):
        read_normalisation({"hounsfield": [5, 5]})


def test_the_card_for_ct_shows_it_by_its_units() -> None:
    assert read_normalisation(read_card_text(CT)["inputs"][0]["normalisation"]) == WINDOW
