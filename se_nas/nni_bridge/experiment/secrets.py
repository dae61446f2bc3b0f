"""The secrets that NNI's configuration refers to, found when a manager is started and written down nowhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from se_nas.errors import LaunchError
from se_nas.records.files import from_home
from se_nas.runs.secret_references import REFERENCE, leaves

#: What NNI's Node resolves (secrets.js); the rest of the configuration stands in the tuner's command line.
_PARTS = ("trainingService", "sharedStorage")


def find_secrets(config: Mapping[str, Any]) -> dict[str, str]:
    """The secret behind each reference in NNI's canonical configuration, by the reference.

    Raises:
        LaunchError: a variable or file is missing, or a reference stands where NNI would not resolve it.
    """
    found: dict[str, str] = {}
    for path, _, value in leaves(dict(config), ""):
        if not isinstance(value, str) or not (reference := REFERENCE.fullmatch(value)):
            continue
        if path.split(".")[0].split("[")[0] not in _PARTS:
            raise LaunchError(f"{path}: must be no reference to a secret, as NNI passes it on in a command line")
        found[value] = (
            _from_environment(path, reference[2]) if reference[1] == "env" else _from_file(path, reference[2])
        )
    return found


def without_secrets(environment: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables that hold the secrets: trials and tuner need none of them."""
    held = {reference[2] for reference in map(REFERENCE.fullmatch, secrets) if reference and reference[1] == "env"}
    return {name: value for name, value in environment.items() if name not in held}


def _from_environment(path: str, name: str) -> str:
    if not (secret := os.environ.get(name)):
        raise LaunchError(f"{path}: the environment variable {name} must hold the secret, but it is not set")
    return secret


def _from_file(path: str, name: str) -> str:
    file = from_home(name, path)
    if not file.is_absolute():
        raise LaunchError(f"{path}: the file of a secret must have an absolute path, but got {name}")
    try:
        secret = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise LaunchError(f"{path}: {file} must hold the secret, but got: {reason}") from error
    if not secret:
        raise LaunchError(f"{path}: {file} must hold the secret, but it is empty")
    return secret
