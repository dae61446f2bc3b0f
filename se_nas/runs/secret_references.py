"""Secrets that a run file refers to and never holds: `password: ${env:NAME}` or `password: ${file:/PATH}`.

What stands in a run file is copied to the run's folder, and NNI keeps it in its database, shows it on its page and
passes it on in a command line. So a secret itself is refused there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

REFERENCE = re.compile(r"\$\{(env|file):([^{}]+)\}")

_SECRET = re.compile(
    r"(^|_)(password|passphrase|passwd|pwd|pass|pat|auth|sas|secret|token|credentials?|connection_string|(access|account|api|private|storage|vault)_?key)(_|$)"
)


def literal_secrets(value: object, path: str) -> list[str]:
    """A line for each secret that a part of a run file holds itself; none of them shows it.

    Args:
        path: of the part in the file.
    """
    must = "must be ${env:NAME} or ${file:/PATH}, as what stands here is stored and shown, but got the secret itself"
    return [
        f"{place}: {must}"
        for place, key, leaf in leaves(value, path)
        if _SECRET.search(_snake(key)) and leaf not in (None, "") and not REFERENCE.fullmatch(str(leaf))
    ]


def leaves(value: object, path: str, key: str = "") -> Iterator[tuple[str, str, object]]:
    """Every value that is no mapping or list, with its path and the key it stands under."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(part, f"{path}.{name}" if path else str(name), str(name))
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield from leaves(part, f"{path}[{i}]", key)
    else:
        yield path, key, value


def _snake(key: str) -> str:
    """A key as NNI's YAML has it, of one as NNI's JSON has it (`sshPassphrase`)."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower().replace("-", "_")
