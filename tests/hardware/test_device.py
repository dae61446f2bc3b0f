from __future__ import annotations

import contextlib

import pytest
import torch

from se_nas.errors import DeviceError
from se_nas.hardware.device import PRECISIONS, arithmetic, autocast_dtype, autocast_for, pick_device


def test_auto_is_a_device_that_computes() -> None:
    device = pick_device("auto")
    assert torch.ones(2, device=device).sum().item() == 2


def test_cpu_can_always_be_asked_for() -> None:
    assert pick_device("cpu") == torch.device("cpu")


def test_missing_device_is_an_error_that_names_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"'cuda' must be present.*cpu$"):
        pick_device("cuda")


def test_unknown_device_is_an_error_that_lists_the_names() -> None:
    with pytest.raises(DeviceError, match=r"auto, cpu, cuda, mps, xpu"):
        pick_device("tpu")


def test_auto_prefers_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto").type == "cuda"


@pytest.mark.parametrize(("capability", "expected"), [((9, 0), torch.autocast), ((7, 5), contextlib.nullcontext)])
def test_autocast_needs_a_gpu_that_computes_in_bf16(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: type
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype: (kind, dtype))
    context = autocast_for(torch.device("cuda"))
    if expected is contextlib.nullcontext:
        assert isinstance(context, contextlib.nullcontext)
    else:
        assert context == ("cuda", torch.bfloat16)


def test_cpu_computes_in_full_precision() -> None:
    with autocast_for(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "capability", "expected"),
    [("cuda", (8, 0), torch.bfloat16), ("cuda", (7, 5), None), ("cpu", (8, 0), None), ("mps", (8, 0), None)],
)
def test_auto_is_bfloat16_where_a_gpu_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, kind: str, capability: tuple[int, int], expected: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert autocast_dtype(torch.device(kind), "auto") == expected
    named = [autocast_dtype(torch.device(kind), name) for name in PRECISIONS[1:]]
    assert named == [None, torch.bfloat16, torch.float16]  # what is asked for is what is done


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("auto", "float32"), ("float32", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16")],
)
def test_the_cpu_computes_in_the_precision_that_is_asked_for(precision: str, expected: str) -> None:
    with autocast_for(torch.device("cpu"), precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == getattr(torch, expected)


@pytest.mark.parametrize("name", ["cpu:0", "auto:1", "cuda:", "cuda:x", "cuda:-1", "tpu:1"])
def test_what_is_no_number_of_a_device_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match=f"one of several such as cuda:1, but got '{name}'"):
        pick_device(name)


def test_arithmetic_of_a_cuda_device_is_put_back() -> None:
    def now() -> tuple[str, bool, bool]:
        cudnn = torch.backends.cudnn
        return torch.get_float32_matmul_precision(), cudnn.benchmark, cudnn.allow_tf32

    before = now()
    for tuned, precision in ((True, "high"), (False, "highest")):
        with arithmetic(torch.device("cuda"), tuned=tuned):
            assert now() == (precision, tuned, True)
    assert now() == before
