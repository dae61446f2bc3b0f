"""The processes of a distributed training, one per device, as torchrun or srun starts them: who they are and how they
agree.

Each process is a rank. Where all have the same gradients, torch's DistributedDataParallel averages them. What stands
here is the rest: joining, numbers and plain values that all ranks must have in common, gradients of which each has
some, and errors that concern all of them.
"""

from __future__ import annotations

import contextlib
import datetime
import inspect
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from se_nas.errors import DeviceError, SeNasError, TrainingError
from se_nas.hardware.interrupt import outlive_end_of_job

_TIMEOUT = datetime.timedelta(minutes=30)
#: How long the others wait for what the first rank does alone; of a search by Optuna that is all its evaluations.
_LONGEST = datetime.timedelta(days=30)
_BEGUN = "se_nas/begun"
# Groups that were joined, alive to the end of the process. Torch joins the threads of a gloo group when its last owner,
# a wrapped module perhaps, is freed, and does so with the interpreter locked; a thread that is about to free what is
# left of its last operation waits for that lock, and the rank hangs.
_JOINED: list[dist.ProcessGroup | None] = []
_LOST = re.compile(r"gloo|nccl|connection|broken pipe|socket|process ?group", re.IGNORECASE)

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """The ranks of this job and which of them this process is; one alone needs no process group.

    Attributes:
        rank: from 0.
        size: how many there are.
        control: the group that plain numbers and values travel in, on the CPU whatever the device is.
        patient: the same with time for whatever the first rank does alone.
        job: torchrun's store, which outlives the processes that it starts.
    """

    rank: int = 0
    size: int = 1
    control: Any = None
    patient: Any = None
    job: Any = None

    @property
    def first(self) -> bool:
        """Whether this rank writes and speaks for all."""
        return self.rank == 0

    def mark_begun(self) -> None:
        """Leave word, for when torchrun starts this job again (`--max-restarts`), that its work had begun."""
        if self.job is not None:
            self.job.set(_BEGUN, "")

    def was_begun(self) -> bool:
        """Whether an earlier start of this very job came as far as `mark_begun`."""
        return self.job is not None and bool(self.job.check([_BEGUN]))

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean over all ranks of each value; a NaN on one rank is one on all."""
        if self.size == 1:
            return list(values)
        return (self._summed(values) / self.size).tolist()

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sum over all ranks of each value."""
        return list(values) if self.size == 1 else self._summed(values).tolist()

    def greatest(self, value: int) -> int:
        """The greatest of all ranks' values."""
        if self.size == 1:
            return value
        tensor = torch.tensor(value)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.control)
        return int(tensor)

    def from_first(self, value: Any) -> Any:
        """What the first rank gave; the values of the others are not looked at."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control)
        return values[0]

    def gathered(self, value: Any) -> list[Any]:
        """Every rank's plain value, in the order of ranks."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value, group=self.control)
        return values

    def average_(self, tensors: Iterable[Tensor]) -> None:
        """Set floating-point tensors of one device to their mean over all ranks."""
        if self.size == 1:
            return
        found = [tensor for tensor in tensors if tensor.is_floating_point()]
        if not found:
            return
        flat = torch.cat([tensor.flatten() for tensor in found])
        dist.all_reduce(flat, group=self._group_of(flat))
        flat /= self.size
        _put_back(flat, found)

    def average_gradients_(self, parameters: Iterable[nn.Parameter]) -> None:
        """Set the gradients that any rank has to their mean over all, that of a rank that has none counted as 0.

        Those that none has stay None.
        """
        if self.size == 1:
            return
        each = list(parameters)
        there = torch.tensor([parameter.grad is not None for parameter in each], dtype=torch.uint8)
        dist.all_reduce(there, dist.ReduceOp.MAX, group=self.control)
        gradients = []
        for parameter, any_has in zip(each, there.tolist(), strict=True):
            if any_has:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        self.average_(gradients)

    def copy_first_(self, tensors: Iterable[Tensor]) -> None:
        """Set floating-point tensors of one device to those of the first rank."""
        if self.size == 1:
            return
        found = [tensor for tensor in tensors if tensor.is_floating_point()]
        flat = torch.cat([tensor.detach().flatten() for tensor in found])
        dist.broadcast(flat, 0, group=self._group_of(flat))
        _put_back(flat, found)

    def _group_of(self, tensor: Tensor) -> Any:
        return self.control if tensor.device.type == "cpu" else None

    def by_first(self, work: Callable[[], Value]) -> Value | None:
        """What the first rank does alone, for however long; the others wait, and get None.

        Raises:
            SeNasError: on the first rank; see `together`.
        """
        value = None
        with self.together():
            self.sum([0.0])  # one that hangs already is not waited for so long
            try:
                value = work() if self.first else None
            except SeNasError:
                with contextlib.suppress(RuntimeError):  # the others may be gone
                    self._await_first()
                raise
            self._await_first()
        return value

    def _await_first(self) -> None:
        if self.size > 1:
            dist.barrier(self.patient)

    def wrapped(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module with gradients that are averaged over all ranks; itself where there is one rank.

        Buffers are left alone: see `average_`.
        """
        if self.size == 1:
            return module
        parallel: Any = nn.parallel.DistributedDataParallel
        devices = [device.index] if device.type == "cuda" else None
        # newer versions of torch rename the option and warn of the old name
        renamed = "forward_sync_buffers" in inspect.signature(parallel.__init__).parameters
        option = "forward_sync_buffers" if renamed else "broadcast_buffers"
        wrapped: nn.Module = parallel(module, device_ids=devices, **{option: False})
        return wrapped

    @contextmanager
    def together(self) -> Iterator[None]:
        """For what every rank prepares: an error on one of them ends all, and only the first rank tells it.

        Raises:
            SeNasError: on the first rank: its own, or another's with its number.
            SystemExit: on the others, without a word.
        """
        error: SeNasError | None = None
        try:
            yield
        except SeNasError as raised:
            error = raised
        if self.size == 1:
            if error is not None:
                raise error
            return
        told = self.gathered(str(error) if error is not None else None)
        if not any(told):
            return
        if not self.first:
            raise SystemExit(2) from error
        if error is not None:
            raise error
        rank, text = next((rank, text) for rank, text in enumerate(told) if text)
        raise TrainingError(f"rank {rank}: {text}")

    @contextmanager
    def losing_none(self) -> Iterator[None]:
        """For work in common: where another rank dies, say so instead of ending in the transport's words.

        Raises:
            TrainingError: a collective operation failed.
        """
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not (isinstance(error, dist.DistError) or _LOST.search(str(error))):
                raise
            outlive_end_of_job()
            raise TrainingError(
                f"rank {self.rank} of {self.size}: every rank must stay alive, but contact with another was lost "
                f"({_reason(error)}); start the job again with --resume"
            ) from error

    def _summed(self, values: Sequence[float]) -> Tensor:
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, group=self.control)
        return tensor


@torch.no_grad()
def _put_back(flat: Tensor, tensors: list[Tensor]) -> None:
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [part.view(t.shape) for t, part in zip(tensors, parts, strict=True)])


@contextmanager
def join_ranks(device: torch.device) -> Iterator[tuple[Ranks, torch.device]]:
    """Join the job that torchrun or srun started, by nccl on CUDA devices and gloo elsewhere; or stay alone.

    Yields:
        The ranks, and this rank's own device: "cuda" becomes the device of its local rank.

    Raises:
        DeviceError: there are more local ranks than CUDA devices, or the device is one of several by its number.
        TrainingError: the ranks do not meet, or one is lost meanwhile.
    """
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        yield Ranks(), device
        return
    backend = "gloo"
    if device.index is not None:
        what = f"under torchrun, which gives each rank a {device.type} device of its own"
        raise DeviceError(f"device must be without a number {what}, but got '{device}'")
    if device.type == "cuda":
        local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= there:
            raise DeviceError(f"each local rank must have a CUDA device of its own, but rank {local} finds {there}")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
        backend = "nccl"
    try:
        job, rank, size = next(iter(rendezvous("env://", timeout=_TIMEOUT)))
        store = _store_of_this_start(job, rank, size)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT)
        control = dist.new_group(backend="gloo", timeout=_TIMEOUT) if backend != "gloo" else None
        patient = dist.new_group(backend="gloo", timeout=_LONGEST)
    except (RuntimeError, ValueError) as error:
        must = f"the ranks of a job must be able to meet, {os.environ['WORLD_SIZE']} by WORLD_SIZE"
        raise TrainingError(f"{must}, but got: {_reason(error)}") from error
    _JOINED.extend([dist.group.WORLD, control, patient])
    ranks = Ranks(rank, size, control, patient, job)
    with ranks.losing_none():
        yield ranks, device
    # not after an error: taking leave waits for ranks that may be gone
    with contextlib.suppress(RuntimeError):
        dist.destroy_process_group()


def _store_of_this_start(store: Store, rank: int, size: int) -> Store:
    """The part of a job's store that no earlier start of the job has written to.

    torchrun hands the same store to a job that it starts again, with the addresses of the dead processes in it, and its
    count of restarts is not the same on all machines (https://github.com/pytorch/pytorch/issues/135712). So the first
    rank draws a name, and tells it to whoever asks with a token, which an earlier process cannot have drawn.
    """
    token = uuid.uuid4().hex
    limit = time.monotonic() + _TIMEOUT.total_seconds()
    if rank == 0:
        name, missing = token, set(range(1, size))
        while missing:
            _wait_a_moment(limit, f"rank {min(missing)}")
            for other in missing:
                if store.check([f"se_nas/asked/{other}"]):
                    asked = store.get(f"se_nas/asked/{other}").decode()
                    store.set(f"se_nas/told/{other}", f"{asked} {name}")
            missing = {other for other in missing if not store.check([f"se_nas/{name}/known/{other}"])}
    else:
        store.set(f"se_nas/asked/{rank}", token)
        asked = ""
        while asked != token:
            _wait_a_moment(limit, "rank 0")
            asked, _, name = store.get(f"se_nas/told/{rank}").decode().partition(" ")
        store.set(f"se_nas/{name}/known/{rank}", "")
    return PrefixStore(f"se_nas/{name}", store)


def _wait_a_moment(limit: float, whom: str) -> None:
    if time.monotonic() > limit:
        raise RuntimeError(f"no word of {whom} in {_TIMEOUT}")
    time.sleep(0.01)


def _reason(error: BaseException) -> str:
    """The transport's first sentence, without the place in its source and without its advice."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return re.sub(r"\[/[^]]*\] ?", "", line).split(". ")[0].rstrip(".")
