"""Where the manager listens: a free port of one address, which the machines that run the trials must reach."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from se_nas.errors import LaunchError

#: Where the page is unless the user says otherwise.
PORT = 8080
HOST = "127.0.0.1"

#: Training services of NNI whose trials connect to the manager (nni.experiment.launcher has the same list, beside the
#: next port, which some of them use too); local trials do so over localhost, the cloud's others never do.
CONNECTING = frozenset({"remote", "openpai", "kubeflow", "frameworkcontroller", "adl"})

WILDCARDS = ("0.0.0.0", "::")


def resolve(host: str) -> str:
    """The numeric address of `host`, a name or an address of this machine.

    Raises:
        LaunchError: there is no such name.
    """
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise LaunchError(f"host must be a name or an address of this machine, but got {host!r}") from error
    answers.sort(key=lambda answer: answer[0] != socket.AF_INET)
    return str(answers[0][4][0])


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine as only itself sees it; False for an unknown name."""
    try:
        return ipaddress.ip_address(resolve(host)).is_loopback
    except (LaunchError, ValueError):
        return False


def url(address: str, port: int) -> str:
    """The page's address for a browser on this machine (or wherever `address` leads)."""
    shown = "127.0.0.1" if address in WILDCARDS else address
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def check_free(address: str, port: int) -> None:
    """Assert that a server can listen at `port` of `address`, and that localhost at that port is nobody else.

    Raises:
        LaunchError: the port is taken, forbidden or none, or the address is not of this machine.
    """
    if not 0 < port < 65536:
        raise LaunchError(f"port must be from 1 to 65535, but got {port}")
    for family, place in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        # NNI's tuner and trials connect to "localhost", which may be either of these
        with contextlib.suppress(OSError), socket.socket(family) as probe:
            probe.settimeout(2.0)
            if probe.connect_ex((place, port)) == 0:
                raise LaunchError(f"port {port} must be free, but something listens there; give another --port")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise LaunchError(f"cannot listen at port {port} of {address}: {error.strerror}") from error


def services(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The training services of NNI's canonical configuration: one, or several where it is hybrid."""
    service = config["trainingService"]
    return list(service) if isinstance(service, list) else [service]


def needs_next_port(config: Mapping[str, Any]) -> bool:
    """Whether NNI may also listen at the port after the page's."""
    return len(services(config)) > 1 or any(service["platform"] in CONNECTING for service in services(config))


def check_reachable(config: Mapping[str, Any], address: str) -> None:
    """Assert that trials on other machines are not told to connect to an address that only this machine sees.

    A `nni_manager_ip` on loopback, given in the configuration, says that a tunnel leads there.

    Raises:
        LaunchError: it names a machine, and the option that lets it in.
    """
    if not is_loopback(address):
        return
    for service, machine in _connecting(config):
        tunnel = service.get("nniManagerIp") or config.get("nniManagerIp")
        if not (is_loopback(machine) or (tunnel and is_loopback(tunnel))):
            raise LaunchError(
                f"trials on {machine} must reach the manager, which would listen on {address} only; "
                f"give --host with an address of this machine that {machine} reaches "
                "(0.0.0.0 for all; the page then has no password)"
            )


def manager_ip(config: Mapping[str, Any], address: str) -> str | None:
    """The address that trials on other machines are told to connect to; None where there are none.

    Raises:
        LaunchError: the manager listens on all addresses, and none of them leads outside.
    """
    if not any(True for _ in _connecting(config)):
        return None
    if address not in WILDCARDS:
        return address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.0", 1))  # sends nothing: asks which address of ours leads outside
        except OSError as error:
            raise LaunchError(
                f"trials on other machines must reach an address of this one, but none leads outside "
                f"({error.strerror}); give --host with the address that they reach"
            ) from error
        return str(probe.getsockname()[0])


def page_names(config: Mapping[str, Any], host: str, address: str) -> list[str]:
    """What a request may call this machine, beside localhost; "*" stands for any bare address (see page_guard.js)."""
    names = {host, address, *(part.get("nniManagerIp") or "" for part in (config, *services(config)))}
    if address in WILDCARDS:
        names |= {"*", socket.gethostname(), socket.getfqdn()}
    return sorted(name.lower() for name in names if name)


def _connecting(config: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The services whose trials connect to the manager, with the name of each machine, or else of the platform."""
    for service in services(config):
        if service["platform"] in CONNECTING:
            for machine in service.get("machineList") or [{"host": f"the {service['platform']} service"}]:
                yield service, machine["host"]
