"""What may be shown of the URL of a study's database, which may hold a password."""

from __future__ import annotations

import re
from urllib.parse import unquote

#: Parameters of a URL that hold no secret; any other is hidden.
_HARMLESS = {
    *("user", "host", "hostaddr", "port", "dbname", "service", "servicefile", "passfile", "options"),
    *("sslmode", "sslcert", "sslkey", "sslrootcert", "gssencmode", "channel_binding", "target_session_attrs"),
    *("application_name", "connect_timeout", "keepalives", "charset", "mode", "timeout", "uri"),
}
_SCHEME = re.compile(r"(?:[\w+.-]+:/+)?")
_PORT = re.compile(r"(?:\[[^\]]*\]|[^:/?\[]*):([^/?]+)")


def masked(url: str) -> str:
    """A URL to show: without its password, and without what may be one."""
    shown, end = "", 0
    for start, stop in _hidden(url):
        shown, end = f"{shown}{url[end:start]}***", stop
    return shown + url[end:]


def without_secrets(words: str, url: str) -> str:
    """Words that a database or its driver said of `url`, without its password."""
    for start, stop in _hidden(url):
        for secret in {url[start:stop], unquote(url[start:stop])}:
            words = words.replace(secret, "***")
    return words


def _hidden(url: str) -> list[tuple[int, int]]:
    """From where to where a URL, however badly it is written, may hold a secret."""
    begin = _SCHEME.match(url).end()  # type: ignore[union-attr]  # it matches the empty text too
    at, query = url.rfind("@"), url.find("?")
    if 0 <= query < at:  # part of a password or the first of the parameters: nobody can tell
        return [(begin, len(url))]
    spans = []
    if at >= 0:
        colon = url.find(":", begin, at)
        spans += [(colon + 1, at)] if colon >= 0 else []
    elif (port := _PORT.match(url, begin)) and not port[1].isdigit():  # user:password without a host
        spans.append(port.span(1))
    if query >= 0:
        start = query + 1
        for part in url[start:].split("&"):
            key = part.partition("=")[0]
            if unquote(key) not in _HARMLESS:
                spans.append((start + len(key) + 1, start + len(part)))
            start += len(part) + 1
    return [(start, stop) for start, stop in spans if start < stop]
