"""The runtimes that latency is one of: what runs a network where it is deployed.

Each is an entry of `RUNTIMES` and a file of its own here, whose function prepares a network to be timed; a plugin adds
entries of its own. What is the same for all, such as turns, medians and tables, is above.
"""

from __future__ import annotations

from se_nas.cost.latency.key import DTYPES, FLOATS
from se_nas.cost.latency.runtimes.clocks import thread_clock, torch_clock
from se_nas.cost.latency.runtimes.runtime import Runtime
from se_nas.errors import DeviceError, install
from se_nas.records.registry import Registry

_HERE = "se_nas.cost.latency.runtimes"

RUNTIMES: Registry[Runtime] = Registry(
    "runtime",
    {
        "onnxruntime": Runtime(
            title="ONNX Runtime",
            prepare=f"{_HERE}.onnx_runtime:prepare",
            devices=("cpu", "cuda"),
            dtypes=("float32", "int8"),
            clock=thread_clock,
            packages=("onnx", "onnxruntime"),
            extra="runtimes",
            default_on=("cpu",),
        ),
        "cuda_graph": Runtime(
            title="PyTorch in a CUDA graph",
            prepare=f"{_HERE}.cuda_graph:prepare",
            devices=("cuda",),
            dtypes=tuple(FLOATS),
            clock=torch_clock,
            default_on=("cuda",),
            graph=False,
        ),
        "eager": Runtime(
            title="eager PyTorch",
            prepare=f"{_HERE}.eager:prepare",
            devices=("cpu", "cuda", "mps", "xpu"),
            dtypes=tuple(FLOATS),
            clock=torch_clock,
            default_on=("cpu", "cuda", "mps", "xpu"),
            graph=False,
        ),
        "compiled": Runtime(
            title="torch.compile",
            prepare=f"{_HERE}.compiled:prepare",
            devices=("cpu", "cuda"),
            dtypes=tuple(FLOATS),
            clock=torch_clock,
            chains=False,  # every chain would be compiled for seconds
        ),
        "tensorrt": Runtime(
            title="ONNX Runtime with TensorRT",
            prepare=f"{_HERE}.onnx_runtime:prepare_tensorrt",
            devices=("cuda",),
            dtypes=("float32", "float16"),
            clock=thread_clock,
            packages=("onnx", "onnxruntime"),  # of the distribution onnxruntime-gpu
            chains=False,  # as above, for an engine
        ),
        "openvino": Runtime(
            title="OpenVINO",
            prepare=f"{_HERE}.openvino:prepare",
            devices=("cpu",),
            dtypes=("float32", "int8"),
            clock=thread_clock,
            packages=("onnx", "openvino"),
            extra="runtimes",
            visits=2,  # each prepares a chain in 0.1 s, five times what ONNX Runtime takes
        ),
        "command": Runtime(
            title="a program of the user's",
            prepare=f"{_HERE}.command:prepare",
            devices=(),
            dtypes=tuple(DTYPES),
            clock=lambda key: "the program's",
            packages=("onnx",),
            extra="runtimes",
            chains=False,
            runs_a_turn=1000,
            of="run",
        ),
        "imported": Runtime(
            title="somebody else's measurements",
            prepare=f"{_HERE}.imported:prepare",
            devices=(),
            clock=lambda key: "whoever measured",
            chains=False,
            of="file",
        ),
    },
)


def default_runtime(device: str, dtype: str) -> str:
    """The runtime of latencies where none is named: the first of `RUNTIMES` that is meant for it and is installed.

    Raises:
        DeviceError: there is none.
    """
    meant = [name for name, entry in RUNTIMES.items() if device in entry.default_on and dtype in entry.dtypes]
    for name in meant:
        if not RUNTIMES[name].missing:
            return name
    if not meant:
        raise DeviceError(f"latency dtype {dtype} must be timed on a device that runs it, but {device} does not")
    entry = RUNTIMES[meant[0]]
    missing, how = " and ".join(entry.missing), install(entry.extra) if entry.extra else "install it"
    raise DeviceError(f"latency dtype {dtype} needs {entry.title}, but there is no {missing}: {how}")


def default_line(device: str, dtype: str) -> str | None:
    """What to say where the default is another runtime for want of a package; None where it is not."""
    taken = default_runtime(device, dtype)
    for name, runtime in RUNTIMES.items():
        if name == taken:
            break
        if device in runtime.default_on and dtype in runtime.dtypes and runtime.extra:
            missing = " and ".join(runtime.missing)
            how = f"{install(runtime.extra)} brings {runtime.title}, and `runtime: {taken}` is without this line"
            return f"latency: {RUNTIMES[taken].title} is timed, since there is no {missing}; {how}"
    return None
