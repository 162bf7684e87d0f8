"""The folder of reports on localhost, read-only: a static site and nothing else.

Only files below the folder are given, no hidden ones, no links that lead out; nothing is listed,
nothing is written, and pages may load nothing from elsewhere.
"""

from __future__ import annotations

import urllib.parse
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from capacity.errors import SettingsError

HOST: Final = "127.0.0.1"
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'self' "
    "'unsafe-inline'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
}


class Handler(SimpleHTTPRequestHandler):
    """Gives files to GET and HEAD; the standard library knows no other way to say how."""

    server_version = "capacity"
    sys_version = ""

    def send_head(self) -> Any:
        """Give the file asked for, unless it is hidden, outside of the folder, or the host odd."""
        if not self._is_local():
            # Another name for this address: a page elsewhere that had its name bent to here
            self.send_error(HTTPStatus.FORBIDDEN, "ask for localhost")
            return None
        place, root = Path(self.translate_path(self.path)), Path(self.directory).resolve()
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        is_hidden = any(part.startswith(".") for part in path.split("/"))
        if is_hidden or not place.resolve().is_relative_to(root):
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def _is_local(self) -> bool:
        host = urllib.parse.urlsplit(f"//{self.headers.get('Host', '')}").hostname
        return host in {HOST, "localhost"}

    def list_directory(self, path: Any) -> None:
        """Give no list of a folder without an index."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        """Say with each answer what a page may do."""
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of single requests."""


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Give a server of a folder of reports on localhost; port 0 takes a free one.

    Raises
    ------
    SettingsError
        If the folder holds no reports, or the port is taken.
    """
    if not any((folder / name).is_file() for name in ("index.html", "+fleet/index.html")):
        raise SettingsError(f"{folder}: no reports there; `capacity report ... --out` makes them")
    try:
        return ThreadingHTTPServer((HOST, port), partial(Handler, directory=str(folder.resolve())))
    except OSError as error:
        raise SettingsError(f"--port {port}: {error.strerror}; name another") from None
