"""A model of timm (or torchvision, or your own) with SE where it pays: every block chooses, all else stays as it is.

Run it with `python examples/own_model.py FOLDER`. It takes minutes on two CPU cores; your own data goes in as in
own_images.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import timm
import torch

import se_nas


def main(
    folder: str, model_name: str = "mobilenetv3_small_050", data: str | dict[str, Any] = "digits", epochs: int = 15
) -> None:
    model = timm.create_model(model_name, num_classes=10).eval()  # `pretrained=True` where there is a network

    # The space: the model's blocks as they are, each with no SE, SE of ratio 4 or 16, or what the model has there.
    mine = se_nas.space_of(model, resolution=32, se=["none", 4, 16], name="my_model")
    counts = se_nas.network_counts(mine.network.spec)
    print(f"{model_name}: {counts.macs:,} MACs, {counts.params:,} parameters; {mine.space.size:,} choices of its SE")

    # The model is one of the space's networks, with its own weights.
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(mine.network(images), model(images), atol=1e-4)

    # As a file, the space can be named by run files and by every command: `se-nas search RUN.yaml`.
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / "my_model.yaml").write_text(se_nas.dump_space(mine.space), encoding="utf-8")

    # Where SE pays, within the model's own number of parameters.
    answer = se_nas.run(
        mine.space,
        Path(folder) / "run",
        data=data,
        budgets={"params": counts.params, "macs": 1.05 * counts.macs},
        strategy={"strategy": "differentiable", "pretrain_epochs": epochs, "epochs": epochs, "batch_size": 64},
        retrain={"epochs": 2 * epochs, "batch_size": 64},
        settings={"latency": {"table": False}},
        progress=True,
    )
    for number, (old, new) in enumerate(zip(mine.network.spec.blocks, answer.architecture.network.blocks, strict=True)):
        before, after = (block.se.label if block.se else "none" for block in (old, new))
        print(f"  block {number}: SE {before} -> {after}")

    # The answer with the model's weights, SE that is new open; `se-nas retrain --weights` begins with such a file.
    torch.save(mine.start(answer.architecture.architecture).state_dict(), Path(folder) / "start.pt")


if __name__ == "__main__":
    main(*sys.argv[1:] or ["my_model"])
