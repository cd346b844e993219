"""Sweeps over scales of volumes that are not quite in order."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ScaleEquivSegLib.cli import main
from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom
from ScaleEquivSegLib.volume import write_volume


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
