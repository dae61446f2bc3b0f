"""A first search from Python: a network for handwritten digits, then another one for a tighter budget.

Run it with `python examples/first_search.py FOLDER`. It takes minutes on two CPU cores, and nothing is downloaded.
"""

from __future__ import annotations

import sys
from pathlib import Path

import se_nas


def show(title: str, answer: se_nas.RunAnswer) -> None:
    print(title)
    for block in answer.architecture.network.blocks:
        se = f"SE with {block.se_hidden} hidden units" if block.se else "no SE"
        print(f"  {block.kind} {block.kernel}x{block.kernel}, {block.in_channels} -> {block.out_channels}, {se}")
    for cost in answer.certificate.costs:  # each says how it is known: counted, predicted or measured
        print(f"  {cost.metric}: {cost.value:,.6g} ({cost.how})")


def main(folder: str, pretrain_epochs: int = 15, epochs: int = 35, retrain_epochs: int = 40) -> None:
    space = se_nas.load_space("mbconv_digits")  # a shipped space, by its name
    print(f"{space.name} has {space.size:,} networks")

    # Supernet, search, exact decode, certificate, retraining and report: everything lands in the folder.
    found = se_nas.run(
        space,
        folder,
        data="digits",
        budgets={"macs": "500k", "params": "26k"},
        strategy={
            "strategy": "differentiable",
            "pretrain_epochs": pretrain_epochs,
            "epochs": epochs,
            "batch_size": 64,
        },
        retrain={"epochs": retrain_epochs, "batch_size": 64},
        settings={"latency": {"table": False}},  # no latency budget here; see latency_budget.py
        progress=True,
    )
    show("within 500 k MACs and 26 k parameters", found)
    if found.result.retrain is not None:
        print(f"  accuracy on the test images: {found.result.retrain.test_accuracy:.2%}")

    # The search has learned how much each choice is worth, so other budgets are answered without another search.
    tighter = se_nas.decode_run(folder, Path(folder) / "tighter", {"macs": "300k", "params": "15k"})
    show("within 300 k MACs and 15 k parameters", tighter)
    print(f"Open {Path(folder) / 'report.html'} in a browser.")


if __name__ == "__main__":
    main(*sys.argv[1:] or ["first_search"])
