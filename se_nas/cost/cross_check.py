"""A second opinion on our counts: torch's own counter, which sees a network that is really built run.

It counts every convolution and matrix product as two operations a multiply-accumulate, and nothing else of a Network:
neither it nor our counts see activations, norms, global means, SE's rescaling and the sums of skips.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from se_nas.cost.counts import network_counts
from se_nas.cost.running_counts import macs_of_running
from se_nas.records.models.certificate import CrossCheck
from se_nas.space.specs import NetworkSpec


def cross_check_counts(network: nn.Module, spec: NetworkSpec) -> CrossCheck:
    """Count a built network as it runs and its specification with `counts`, for one image.

    Args:
        network: what `spec` builds; left as it is.
        spec: the specification that our counts read.
    """
    copied = copy.deepcopy(network).to("meta").eval()  # its shapes are all that is read
    with torch.device("meta"):
        image = torch.empty(1, spec.in_channels, spec.resolution, spec.resolution)
    ours, macs = network_counts(spec), macs_of_running(copied, image)
    params = sum(parameter.numel() for parameter in network.parameters())
    return CrossCheck(
        counter="torch.utils.flop_counter, half of its operations",
        macs=ours.macs,
        params=ours.params,
        built_macs=macs,
        built_params=params,
        agree=(ours.macs, ours.params) == (macs, params),
    )
