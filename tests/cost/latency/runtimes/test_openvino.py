"""OpenVINO runs in a process of its own, which this one starts and ends."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes import RUNTIMES, openvino_process
from se_nas.cost.latency.runtimes import openvino as openvino_runtime
from se_nas.cost.latency.runtimes.openvino import prepare
from se_nas.cost.latency.timing import latency_key, measure_network
from se_nas.errors import DeviceError
from se_nas.layers.network import Network
from tests.cost.latency.runtimes.networks import NETWORK

pytestmark = pytest.mark.skipif(bool(RUNTIMES["openvino"].missing), reason="needs onnx and openvino")


@pytest.fixture
def key():
    return latency_key("cpu", "openvino")


@pytest.fixture
def sampler(key):
    return prepare(Network(NETWORK).eval(), [torch.randn(1, 3, 8, 8)], key)


def process():
    return openvino_runtime._processes[os.getpid()]


def test_this_process_holds_no_openvino_after_it_has_timed_in_it(key):
    assert measure_network(NETWORK, key, rounds=3).n == 3
    assert "openvino" not in sys.modules


def test_the_process_ends_where_there_are_no_more_requests():
    done = subprocess.run([sys.executable, "-P", openvino_process.__file__], input=b"", timeout=240, check=True)
    assert done.returncode == 0


@pytest.mark.slow
def test_the_process_ends_with_whoever_started_it_and_was_killed(tmp_path):
    body = """
        import os, time
        from se_nas.cost.latency.timing import latency_key, measure_network
        from se_nas.cost.latency.runtimes import openvino
        from tests.cost.latency.runtimes.networks import NETWORK
        measure_network(NETWORK, latency_key("cpu", "openvino"), rounds=1)
        print(openvino._processes[os.getpid()]._process.pid, flush=True)
        time.sleep(600)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(body)], stdout=subprocess.PIPE, text=True) as starter:
        started = int(starter.stdout.readline())
        os.kill(started, 0)  # it is there
        starter.kill()
    for _ in range(600):
        try:
            os.kill(started, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("it is still there")


def test_where_the_process_dies_one_line_says_how_and_the_next_network_has_another(key, sampler):
    process()._process.kill()
    with pytest.raises(
        DeviceError, match=r"^runtime openvino must answer, but its process died of signal 9 and said nothi"
    ):
        sampler(1)
    assert measure_network(NETWORK, key, rounds=2).n == 2


def test_a_process_that_dies_while_another_holds_its_pipe_open_is_no_hang(sampler):
    dying = process()._process
    held = os.open(f"/proc/{dying.pid}/fd/1", os.O_WRONLY)  # as one has it that was forked in the wrong moment
    try:
        dying.kill()
        with pytest.raises(DeviceError, match="its process died of signal 9"):
            sampler(1)
    finally:
        os.close(held)


def test_a_process_that_cannot_start_is_told_with_its_last_words(tmp_path, monkeypatch):
    script = tmp_path / "broken.py"
    script.write_text("import sys; print('libtbb.so.12: no such file', file=sys.stderr); sys.exit(3)")
    monkeypatch.setattr(openvino_process, "__file__", str(script))
    monkeypatch.setattr(openvino_runtime, "_processes", {})
    with pytest.raises(DeviceError, match=r"exited with 3; its last words are 'libtbb\.so\.12: no such file'"):
        measure_network(NETWORK, LatencyKey(latency_key().device, "openvino"), rounds=1)


def test_a_request_that_is_interrupted_is_no_answer_to_the_next_one(key, sampler):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            sampler(10_000_000)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert measure_network(NETWORK, key, rounds=2).n == 2


def test_what_openvino_cannot_run_is_one_line_and_the_process_goes_on(key, sampler, monkeypatch):
    monkeypatch.setattr(openvino_runtime, "onnx_bytes", lambda *arguments: b"no model")
    with pytest.raises(DeviceError, match="must be able to run the network, but says: ") as caught:
        measure_network(NETWORK, key, rounds=1)
    assert "\n" not in str(caught.value)
    assert len(sampler(3)) == 3


def test_a_model_that_nobody_will_run_again_is_forgotten(key, sampler):
    other = prepare(Network(NETWORK).eval(), [torch.randn(1, 3, 8, 8)], key)
    gc.collect()
    sampler(1)  # those of other tests are forgotten with this
    del other
    gc.collect()
    (number,) = process().forgotten
    sampler(1)
    assert not process().forgotten
    with pytest.raises(DeviceError, match=str(number)):
        process().ask(f"run {number} 1 wall")
