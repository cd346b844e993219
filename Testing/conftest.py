"""Shared by all tests: the stand-in host, started before anything else can import Qt."""

from collections.abc import Iterator

import pytest

import slicerhost

slicerhost.start()


@pytest.fixture
def seeded() -> None:
    """The same random numbers in every run."""
    import torch

    torch.manual_seed(0)


@pytest.fixture
def double_precision() -> Iterator[None]:
    """New tensors are float64, and the same random ones in every run."""
    import torch

    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
