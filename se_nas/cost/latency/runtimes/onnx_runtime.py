"""ONNX Runtime (https://onnxruntime.ai) on CPUs, and on CUDA devices by its CUDA and TensorRT providers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes.clocks import by_thread_clock
from se_nas.cost.latency.runtimes.onnx_model import onnx_bytes
from se_nas.cost.latency.runtimes.runtime import Sampler
from se_nas.errors import DeviceError


def prepare(module: nn.Module, inputs: Sequence[Tensor], key: LatencyKey) -> Sampler:
    """A session on the key's device by the provider of its kind."""
    cuda = key.torch_device.type == "cuda"
    if cuda and key.dtype == "int8":  # its CUDA provider has no kernels for integers, and would run floats between them
        raise DeviceError("latency dtype of onnxruntime on cuda must be float32, but got 'int8'")
    return _session(module, inputs, key, "CUDAExecutionProvider" if cuda else "CPUExecutionProvider")


def prepare_tensorrt(module: nn.Module, inputs: Sequence[Tensor], key: LatencyKey) -> Sampler:
    """A session by the TensorRT provider, which builds an engine first; that takes it seconds to minutes."""
    return _session(module, inputs, key, "TensorrtExecutionProvider")


def _session(module: nn.Module, inputs: Sequence[Tensor], key: LatencyKey, provider: str) -> Sampler:
    import onnxruntime

    there = onnxruntime.get_available_providers()
    if provider not in there:
        must = f"runtime {key.runtime} on {key.torch_device.type} must have ONNX Runtime's {provider}"
        raise DeviceError(f"{must}, but the installed one has {', '.join(there)}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = key.threads, 1
    options.log_severity_level = 3  # errors alone
    fp16 = key.dtype == "float16"
    own: dict[str, Any] = {"trt_fp16_enable": fp16} if provider == "TensorrtExecutionProvider" else {}
    session = onnxruntime.InferenceSession(onnx_bytes(module, inputs, key.dtype), options, providers=[(provider, own)])
    if session.get_providers()[0] != provider:  # it falls back on the CPU without a word
        raise DeviceError(
            f"ONNX Runtime's {provider} must be able to run here, but it runs {session.get_providers()[0]}"
        )
    # bound once: a run then copies neither images nor logits between torch, numpy and the device
    binding = session.io_binding()
    device = "cpu" if provider == "CPUExecutionProvider" else "cuda"
    kept = [onnxruntime.OrtValue.ortvalue_from_numpy(images.cpu().contiguous().numpy(), device, 0) for images in inputs]
    for declared, value in zip(session.get_inputs(), kept, strict=True):
        binding.bind_ortvalue_input(declared.name, value)
    for declared in session.get_outputs():
        binding.bind_output(declared.name, device)

    def run() -> object:
        session.run_with_iobinding(binding)  # on CUDA it returns when the device is done
        return kept

    for _ in range(3):
        run()
    return by_thread_clock(run, key)
