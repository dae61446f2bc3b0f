"""CUDA devices that are not there: `pytest -p tests.simulated_cuda.plugin -m gpu` runs on them what is marked `gpu`.

Their tensors are torch's own, say that they are on cuda:0 or cuda:1, and have their values in the CPU's memory. torch
refuses what it refuses on GPUs: tensors of two devices, NumPy's view of a tensor, waits while a graph is captured.
`counts` tells how many kernels were launched and where the host waited. Of CUDA's memory, streams, speed and NCCL, and
of what its kernels do not take, nothing is known here.
"""
