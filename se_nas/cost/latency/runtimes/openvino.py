"""OpenVINO (https://docs.openvino.ai) on CPUs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes.clocks import by_thread_clock
from se_nas.cost.latency.runtimes.onnx_model import onnx_bytes
from se_nas.cost.latency.runtimes.runtime import Sampler


def prepare(module: nn.Module, inputs: Sequence[Tensor], key: LatencyKey) -> Sampler:
    """A compiled model with one stream, as one image after another is served."""
    import openvino

    model = openvino.Core().read_model(onnx_bytes(module, inputs))
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": key.threads,
        # by itself it would run float32 networks in bfloat16 where the processor can
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    for place, images in enumerate(inputs):
        request.set_input_tensor(place, openvino.Tensor(images.contiguous().numpy(), shared_memory=False))

    def run() -> object:
        return request.infer(share_inputs=True, share_outputs=True)

    for _ in range(3):
        run()
    return by_thread_clock(run, key)
