"""NNI's page as its server sends it: with its icons, and with no address of the internet to take fonts from."""

from __future__ import annotations

import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import nni_node
import pytest

from se_nas.nni_bridge.experiment import manager

#: Knows nothing of a page.
SERVER = """
const http = require("node:http");
const server = http.createServer((request, response) => response.writeHead(404).end("NNI's own"));
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
"""
NODE = Path(nni_node.__path__[0])


def test_the_page_has_icons_of_a_font_that_is_there_and_all_else_is_nnis_own() -> None:
    icons = Path(manager.__file__).parent / "preloads" / "icons.js"
    command = [NODE / "node", "--require", icons, "-e", SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=NODE, text=True) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        pages = {urllib.request.urlopen(url + path).read().decode() for path in ("/", "/oview", "/detail?a=b")}
        for path in ("/api/v1/nni/check-status", "/static/js/x.js", "/detail/x", "/logs/oview"):
            with pytest.raises(urllib.error.HTTPError) as answer:
                urllib.request.urlopen(url + path)
            with answer.value as error:
                assert error.read() == b"NNI's own"
        server.terminate()
    (page,) = pages
    (font,) = re.findall(r'src:url\("\./(static/media/codicon[^"]+)"\)', page)
    assert (NODE / "static" / font).exists()
    drawn = dict(re.findall(r'\[data-icon-name="(\w+)" i\]::before\{content:"\\(\w+)"\}', page))
    assert {"Add", "Cancel", "ChevronDown", "CheckMark", "Copy", "Search", "SortUp", "Warning"} <= drawn.keys()
    assert page.index("FabricConfig") < page.index('src="./static/js')
    assert "office" not in page
