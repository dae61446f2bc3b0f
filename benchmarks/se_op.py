"""Claim: our Squeeze-and-Excitation runs forward and backward at least twice as fast as timm's eager one on a CPU.

Both get the same weights, input and output gradient, and compute the gradient of the input and of every parameter. They
take turns, STEPS steps each, because in a network the layers around an SE block have just written its maps, and a step
after its like finds them in the cache in the same way. With turns of one step each, every map is cold and both sides
wait for memory: the ratio then falls towards that of the passes, 13 / 7.
Run: python benchmarks/se_op.py [--device cpu] [--repeats 15]. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from se_nas.hardware.allocator import tune_allocator
from se_nas.hardware.environment import processor_name
from se_nas.layers.attention.se import SqueezeExcite
from se_nas.layers.torchvision_guard import import_timm

BATCH = 128
REDUCTION = 4
SHAPES = ((96, 32), (144, 16))
"""(channels, height and width) of the feature maps."""
STEPS = 10
"""Steps that one side takes before it is the other's turn."""
BAR = 2.0
"""Least ratio of timm's time to ours, on every shape, for the claim to hold."""


class PassCounter(TorchDispatchMode):
    """Counts how often whole feature maps are read or written, in units of one map of `map_bytes` bytes.

    Only tensors whose storage holds a whole map count: a chunk that is used again and again stays in the cache.
    """

    def __init__(self, map_bytes: int) -> None:
        super().__init__()
        self.map_bytes = map_bytes
        self.passes = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Run one operation and add the passes that it makes."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        schema = func._schema
        moves_no_data = "empty" in schema.name or any(
            r.alias_info is not None and not r.alias_info.is_write for r in schema.returns
        )
        if moves_no_data:
            return result
        for position, argument in enumerate(schema.arguments):
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            written = argument.alias_info is not None and argument.alias_info.is_write
            read = not (written and argument.is_out)
            self.passes += (read + written) * self._share_of_map(value)
        for returned, value in zip(
            schema.returns, result if isinstance(result, (tuple, list)) else (result,), strict=False
        ):
            if returned.alias_info is None:
                self.passes += self._share_of_map(value)
        return result

    def _share_of_map(self, value: Any) -> float:
        if not isinstance(value, Tensor) or value.untyped_storage().nbytes() < self.map_bytes:
            return 0.0
        return value.numel() * value.element_size() / self.map_bytes


def pair(channels: int, hidden: int) -> tuple[nn.Module, SqueezeExcite]:
    """Return timm's SE module and ours, with the same weights."""
    import_timm()
    from timm.layers.squeeze_excite import SEModule

    theirs = SEModule(channels, rd_channels=hidden)
    ours = SqueezeExcite(channels, hidden)
    weights = {name.replace("fc1", "reduce").replace("fc2", "expand"): w for name, w in theirs.state_dict().items()}
    ours.load_state_dict({name: w.flatten(1) if w.dim() == 4 else w for name, w in weights.items()})
    return theirs, ours


def step(module: nn.Module, x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    """Run `module` forward and backward; return its output and the gradients of x and of the parameters."""
    out = module(x)
    return (out.detach(), *torch.autograd.grad(out, [x, *module.parameters()], grad))


def count_passes(module: nn.Module, x: Tensor, grad: Tensor) -> float:
    """Return how many passes over its feature map one forward and backward of `module` makes."""
    with PassCounter(x.numel() * x.element_size()) as counter:
        step(module, x, grad)
    return counter.passes


def milliseconds(module: nn.Module, x: Tensor, grad: Tensor) -> float:
    """Return the wall time of one step, as the mean of STEPS of them, until the device is done."""
    synchronize = torch.cuda.synchronize if x.is_cuda else lambda: None
    synchronize()
    start = time.perf_counter()
    for _ in range(STEPS):
        step(module, x, grad)
    synchronize()
    return (time.perf_counter() - start) * 1e3 / STEPS


def measure(channels: int, size: int, device: str, repeats: int, batch: int) -> dict[str, Any]:
    """Time both modules in turn on one shape; return the figures of that shape."""
    theirs, ours = (module.to(device) for module in pair(channels, channels // REDUCTION))
    x, grad = (
        torch.randn(batch, channels, size, size, device=device).to(memory_format=torch.channels_last) for _ in range(2)
    )
    x.requires_grad_()
    # also the warm-up
    for a, b in zip(step(theirs, x, grad), step(ours, x, grad), strict=True):
        torch.testing.assert_close(a.flatten(), b.flatten(), rtol=1e-3, atol=1e-3)
    times: dict[str, list[float]] = {"timm": [], "ours": []}
    for _ in range(repeats):
        for name, module in (("timm", theirs), ("ours", ours)):
            times[name].append(milliseconds(module, x, grad))
    ratios = statistics.quantiles([a / b for a, b in zip(times["timm"], times["ours"], strict=True)], n=4)
    return {
        "shape": [batch, channels, size, size],
        **{f"{name}_ms": summary(values) for name, values in times.items()},
        "ratio": round(statistics.median(times["timm"]) / statistics.median(times["ours"]), 3),
        "paired_ratio_quartiles": [round(q, 3) for q in ratios],
        "timm_passes": round(count_passes(theirs, x, grad), 1),
        "our_passes": round(count_passes(ours, x, grad), 1),
    }


def summary(values: list[float]) -> dict[str, float]:
    """Return the median of `values` and their first and third quartile."""
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": round(median, 3), "q1": round(low, 3), "q3": round(high, 3)}


def main() -> None:
    """Measure every shape, print a table for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=15, help="timed repeats of each side, at least 2")
    parser.add_argument("--batch-size", type=int, default=BATCH)
    options = parser.parse_args()
    tuned = tune_allocator()
    torch.manual_seed(0)
    figures = [
        measure(channels, size, options.device, options.repeats, options.batch_size) for channels, size in SHAPES
    ]
    table = Table(title="Squeeze-and-Excitation, forward and backward, float32, channels_last")
    for heading in ("feature map", "timm ms (quartiles)", "ours ms (quartiles)", "ratio", "timm passes", "our passes"):
        table.add_column(heading, justify="right")
    for f in figures:
        cells = [f"{t['median']:.2f} ({t['q1']:.2f} to {t['q3']:.2f})" for t in (f["timm_ms"], f["ours_ms"])]
        passes = (f"{f['timm_passes']:g}", f"{f['our_passes']:g}")
        table.add_row("x".join(map(str, f["shape"])), *cells, f"{f['ratio']:.2f}", *passes)
    Console(width=120).print(table)
    setting = {
        "hardware": processor_name(options.device),
        "device": options.device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "timm": import_timm().__version__,
        "n": options.repeats,
        "allocator_tuned": tuned,
    }
    print(", ".join(f"{key} {value}" for key, value in setting.items()))
    holds = all(f["ratio"] >= BAR for f in figures)
    print(json.dumps({"benchmark": "se_op", **setting, "figures": figures, "bars": {"ratio": BAR}, "holds": holds}))


if __name__ == "__main__":
    main()
