"""Shared by all tests: the stand-in host, started before anything else can import Qt."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import slicerhost

slicerhost.start()

from panel_user import User  # noqa: E402  # it imports slicer, which the host fills
from ScaleEquivSegLib.bundles import bundled_models  # noqa: E402
from ScaleEquivSegLib.panel import models  # noqa: E402


@pytest.fixture(scope="session")
def phantom_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models of one task."""
    folder = tmp_path_factory.mktemp("phantom models")
    for name in ("phantom-se_unet", "phantom-unet"):
        shutil.copytree(bundled_models() / name, folder / name)
    return folder


@pytest.fixture(autouse=True)
def phantoms_alone(phantom_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The panel has the models of the phantom, whichever are bundled, unless a test puts others in their place."""
    monkeypatch.setattr(models, "bundled_models", lambda: phantom_models)


@pytest.fixture
def user() -> Iterator[User]:
    """The panel in a fresh scene; what slots raise fails the test."""
    user = User(slicerhost.start())
    yield user
    user.host.close()
    user.host.raise_exceptions()


@pytest.fixture
def seeded() -> Iterator[None]:
    """The same random numbers in every run, on one thread: maps this small only wait for a second one."""
    import torch

    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def double_precision() -> Iterator[None]:
    """New tensors are float64, and the same random ones in every run."""
    import torch

    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
