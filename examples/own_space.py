"""A search space of your own, written in Python: its size, its costs, its YAML file, and a search of it.

Run it with `python examples/own_space.py`. It takes seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import se_nas
from se_nas import HeadTemplate, OpTemplate, SETemplate, StageTemplate, StemTemplate


def stage(width: int, stride: int) -> StageTemplate:
    """One to three MBConv blocks; each chooses its kernel, its expansion, and whether and how it uses SE."""
    se = SETemplate(options=(None, 4, 16), ratio_of="expanded", divisor=8)  # no SE, or a reduction ratio of 4 or 16
    block = OpTemplate(kind="mbconv", name="mbconv", kernels=(3, 5), expansions=(3, 6), se=se)
    return StageTemplate(width=width, stride=stride, depths=(1, 2, 3), ops=(block,))


def main(file: str = "my_space.yaml") -> None:
    space = se_nas.SearchSpace(
        name="my_space",
        resolution=32,
        classes=10,
        stem=StemTemplate(width=16),
        stages=(stage(24, 2), stage(40, 2), stage(80, 1)),
        head=HeadTemplate(width=256),
    )
    print(f"{space.size:,} networks")

    # An architecture is one pick for each choice. It resolves to a network in full, which can be counted and built.
    drawn = space.sample(np.random.default_rng(0))
    spec = space.resolve(drawn)
    counts = se_nas.network_counts(spec)
    network = se_nas.build(spec)  # an nn.Module
    assert counts.params == sum(parameter.numel() for parameter in network.parameters())
    print(f"a random network: {counts.macs:,} MACs, {counts.params:,} parameters, {len(spec.blocks)} blocks")

    # As a file, it can be named by run files and by every command, such as `se-nas space show my_space.yaml`.
    Path(file).write_text(se_nas.dump_space(space), encoding="utf-8")
    assert se_nas.load_space(file) == space

    # Anything that judges an architecture can drive a search; here it counts the blocks that use SE.
    def worth(architecture: se_nas.Architecture) -> float:
        blocks = space.resolve(architecture).blocks
        return sum(block.se is not None for block in blocks) / 9

    budgets = se_nas.parse_budgets({"macs": "8M", "params": "120k"}, "own_space.py")
    best = se_nas.search_architectures(space, budgets, worth).best
    print(f"the best that keeps 8 MMACs and 120 k parameters has {round(9 * best.accuracy)} blocks with SE")


if __name__ == "__main__":
    main(*sys.argv[1:])
