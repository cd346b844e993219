"""Where to compute: what devices say when they have too little memory, or lack an operation, is understood."""

from __future__ import annotations

import pytest
import torch

from ScaleEquivSegLib.devices import arithmetic, ever_thinner, run_where_it_fits


@pytest.mark.parametrize(
    "said",
    [
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "[enforce fail at alloc_cpu.cpp] data. DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "std::bad_alloc",
        "Invalid buffer size: 9.00 GB",
    ],
)
def test_every_way_to_say_that_memory_ran_out_is_understood(said: str) -> None:
    tried = []

    def run(device: torch.device, slab: int | None) -> str:
        tried.append(slab)
        if len(tried) < 3:
            raise RuntimeError(said)
        return "done"

    assert run_where_it_fits(run, torch.device("cpu"), lambda note: None, ever_thinner(None)) == (
        "done",
        torch.device("cpu"),
    )
    assert tried == [None, 8, 1]


@pytest.mark.parametrize(
    "error",
    [
        NotImplementedError("no such operator"),
        RuntimeError("Conv3D is not supported on MPS"),
        RuntimeError("User specified an unsupported autocast device_type 'mps'"),  # torch 2.2
    ],
)
def test_what_a_device_cannot_compute_the_cpu_does(error: RuntimeError) -> None:
    def run(device: torch.device, slab: int | None) -> str:
        if device.type == "mps":
            raise error
        return "done"

    notes: list[str] = []
    assert run_where_it_fits(run, torch.device("mps"), notes.append) == ("done", torch.device("cpu"))
    assert notes == [f"mps cannot compute this network ({error}).", "The CPU computed what mps could not."]


def test_an_error_that_is_none_of_the_device_s_is_not_tried_again() -> None:
    def run(device: torch.device, slab: int | None) -> str:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        run_where_it_fits(run, torch.device("mps"), lambda note: None)


def test_float32_asks_no_device_for_mixed_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **settings: object) -> None:
        raise RuntimeError("User specified an unsupported autocast device_type 'mps'")

    monkeypatch.setattr(torch, "autocast", refuse)
    with arithmetic(torch.device("mps"), "float32", deterministic=False):
        assert torch.is_inference_mode_enabled()
