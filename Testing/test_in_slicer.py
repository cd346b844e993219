"""What runs inside Slicer runs here too, on the stand-in: the module's self-test, its sample data, and the examples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

import slicerhost
from panel_user import MODULE, User
from ScaleEquivSegLib.comparison import dice
from ScaleEquivSegLib.mrml.samples import SAMPLES, load_sample
from ScaleEquivSegLib.phantom import PhantomSpec

ROOT = MODULE.parents[1]


@pytest.fixture
def host() -> Iterator[slicerhost.Host]:
    host = slicerhost.start()
    host.sample_data.clear()
    host.load_module(MODULE)
    yield host
    host.close()
    host.raise_exceptions()


def test_the_self_test_of_the_module_passes(host: slicerhost.Host) -> None:
    slicer.modules.ScaleEquivSegInstance.runTest(msec=0)
    host.raise_exceptions()
