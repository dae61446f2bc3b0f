"""A detector on the feature pyramid of a network with SE: torchvision's Faster R-CNN with FPN trains."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from se_nas.export import timm_model  # noqa: F401  (registers the model)
from se_nas.layers.torchvision_guard import import_timm
from se_nas.space.architecture_file import ArchitectureFile
from tests.export.test_timm_model import MOBILE, RESIDUAL
from tests.export.trained import trained

timm = import_timm()
torchvision = importlib.import_module("torchvision")
SIDE = 64


def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """What torchvision.ops.nms does."""
    overlaps = torchvision.ops.box_iou(boxes, boxes)
    left, kept = scores.argsort(descending=True), []
    while len(left):
        kept.append(left[0])
        left = left[1:][overlaps[left[0], left[1:]] <= threshold]
    return torch.stack(kept) if kept else left


@pytest.fixture(autouse=True)
def _operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torchvision's compiled operators do not load: plain ones, not compiled anew."""
    if importlib.import_module("torchvision.extension")._has_ops():
        return
    monkeypatch.setattr(importlib.import_module("torchvision.ops.boxes"), "nms", nms)
    roi_align = importlib.import_module("torchvision.ops.roi_align")
    monkeypatch.setattr(roi_align, "_roi_align", roi_align._roi_align.__wrapped__)


class Backbone(nn.Module):
    """Maps of reductions 4 to 32 and a coarser one, of 16 channels each."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features
        ops = torchvision.ops
        self.pyramid = ops.FeaturePyramidNetwork(
            features.feature_info.channels(), 16, ops.feature_pyramid_network.LastLevelMaxPool()
        )
        self.out_channels = 16

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = self.pyramid(OrderedDict((str(i), map) for i, map in enumerate(self.features(x))))
        return maps


def scenes() -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Two gray images, each with a bright and a dark square."""
    for shift in (0.0, 8.0):
        boxes = torch.tensor([[4.0, 4.0, 28.0, 28.0], [32.0, 30.0, 52.0, 54.0]]) + shift
        image = 0.4 + 0.1 * torch.rand(3, SIDE, SIDE)
        for (left, top, right, bottom), light in zip(boxes.int().tolist(), (1.0, 0.0), strict=True):
            image[:, top:bottom, left:right] = light
        yield image, {"boxes": boxes, "labels": torch.tensor([1, 2])}


@pytest.mark.parametrize("file", [MOBILE, RESIDUAL], ids=["mobile", "residual"])
def test_a_detector_trains_two_steps(file: ArchitectureFile) -> None:
    torch.manual_seed(0)
    spec = file.network
    features = timm.create_model("se_nas", architecture=spec, features_only=True, out_indices=(1, 2, 3, 4))
    features.load_state_dict(trained(spec).state_dict())
    detection = importlib.import_module("torchvision.models.detection")
    model = detection.FasterRCNN(
        Backbone(features),
        num_classes=3,
        min_size=SIDE,
        max_size=SIDE,
        rpn_anchor_generator=detection.anchor_utils.AnchorGenerator(
            sizes=((8,), (16,), (24,), (32,), (48,)), aspect_ratios=((0.5, 1.0, 2.0),) * 5
        ),
        box_roi_pool=torchvision.ops.MultiScaleRoIAlign(["0", "1", "2", "3"], 5, 2),
        rpn_pre_nms_top_n_train=100,
        rpn_post_nms_top_n_train=50,
        box_batch_size_per_image=32,
    )
    images, targets = zip(*scenes(), strict=True)
    before = {name: value.clone() for name, value in features.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.005)
    losses = []
    for _ in range(3):
        torch.manual_seed(1)  # of all regions some are drawn
        parts = model(list(images), [dict(target) for target in targets])
        assert set(parts) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
        losses.append(sum(parts.values()))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert all(loss.isfinite() for loss in losses)
    assert losses[2] < 0.9 * losses[0]
    # a norm's bias before another norm has no effect, and so hardly a gradient
    weights = {name: value for name, value in features.named_parameters() if value.ndim > 1}
    assert [name for name, value in weights.items() if torch.equal(value, before[name])] == []
    assert all(parameter.grad is not None for parameter in model.parameters())

    model.eval()
    with torch.no_grad():
        found = model(list(images))
    assert all(set(each) == {"boxes", "labels", "scores"} for each in found)
