"""A Prometheus server over HTTP: credentials, patience, and what its refusals mean.

Credentials come from the environment or from files named there, or stand in the URL; they are in
no message and in no table.
"""

from __future__ import annotations

import base64
import email.utils
import os
import re
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from capacity.errors import ExportError, SettingsError
from capacity.export import without_secrets
from capacity.load import prom_json

# Pauses before further attempts. [s]
WAITS: Final = (0.5, 1.0, 2.0, 4.0)
_LONGEST_WAIT: Final = 30.0
_TIMEOUT: Final = httpx.Timeout(120.0, connect=10.0)
_API_PATH: Final = re.compile(r"/(?:api/v1(?:/query(?:_range)?)?|graph|query)?/?$")
# Characters of a question that go into a URL; longer ones are posted
LONG_QUESTION: Final = 4000
# Values of a URL's query that are no longer than this are no secrets
_SHORT: Final = 7
_RETRIED: Final = (429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Server:
    """A server: client, URL to call and to tell, waits between attempts [s], what to hide."""

    client: httpx.Client
    url: str
    params: Mapping[str, str] = field(repr=False)
    name: str
    waits: Sequence[float]
    secrets: tuple[str, ...] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    stopped: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)


class RefusedError(Exception):
    """The server answers, but not this question: HTTP status and its own words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status, self.text = status, text


@contextmanager
def connected(
    url: str,
    headers: Mapping[str, str] | None,
    client: httpx.Client | None,
    waits: Sequence[float],
) -> Iterator[Server]:
    """Give the server at a URL; credentials of the URL come before those of the environment.

    Raises
    ------
    ExportError
        If it is no URL of HTTP.
    SettingsError
        If a file that the environment names cannot be read.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise ExportError(f"{without_secrets(url)}: is no URL: {type(error).__name__}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ExportError(
            f"{without_secrets(url)}: only http:// and https:// are read; copy other stores to a "
            "folder first, and name that"
        )
    own, secrets = _credentials(parsed)
    params = dict(parsed.params)
    secrets += tuple(value for value in params.values() if len(value) > _SHORT)
    secrets += tuple((headers or {}).values())
    path = _API_PATH.sub("", parsed.path)
    base = str(parsed.copy_with(path=path, userinfo=b"", query=None, fragment=None)).rstrip("/")
    opened = client or httpx.Client(timeout=_TIMEOUT, follow_redirects=True)
    sent = {**own, **(headers or {})}
    try:
        yield Server(opened, base, params, base, waits, secrets, sent)
    finally:
        if client is None:
            opened.close()


def _credentials(url: httpx.URL) -> tuple[dict[str, str], tuple[str, ...]]:
    """Give headers, and what must not be told: of the URL, else of the environment."""
    headers: dict[str, str] = {}
    secrets: list[str] = []
    if listed := os.environ.get("CAPACITY_PROM_HEADERS_FILE"):
        headers |= _headers_of(listed)
        secrets += headers.values()
    user, password = url.username, url.password
    token = None if user else _secret("CAPACITY_PROM_TOKEN")
    if not user and token is None:
        user = os.environ.get("CAPACITY_PROM_USER", "")
        password = (_secret("CAPACITY_PROM_PASSWORD") or "") if user else ""
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
        secrets.append(token)
    elif user:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
        secrets += [pair, password, urllib.parse.quote(password, safe="")]
    return headers, tuple(text for text in secrets if text)


def _secret(name: str) -> str | None:
    """Give a secret of the environment, or of the file that NAME_FILE names."""
    if told := os.environ.get(name):
        return told
    path = os.environ.get(f"{name}_FILE")
    return None if path is None else _text(f"{name}_FILE", path).strip()


def _headers_of(path: str) -> dict[str, str]:
    headers = {}
    for number, line in enumerate(_text("CAPACITY_PROM_HEADERS_FILE", path).splitlines(), 1):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise SettingsError(
                f"CAPACITY_PROM_HEADERS_FILE: {path}:{number} is no header; wanted is Name: value"
            )
        headers[name.strip()] = value.strip()
    return headers


def _text(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise SettingsError(f"{variable}: {path} cannot be read: {why}") from None


def ask(server: Server, path: str, question: Mapping[str, str]) -> dict[str, Any]:
    """Give an answer; patient with servers that are busy and connections that break.

    Raises
    ------
    RefusedError
        If the server refuses this question.
    ExportError
        If it gives no answer, asks for credentials, or answers something else than JSON.
    """
    fault, retry_after = "", None
    for wait in (0.0, *server.waits):
        pause = max(wait, retry_after or 0.0)
        if pause > _LONGEST_WAIT:
            break
        if pause and server.stopped.wait(pause):
            break
        try:
            response = _sent(server, path, question)
        except httpx.RequestError as error:
            fault, retry_after = _lost(error), None
            if isinstance(error, httpx.ConnectError) and not server.answered.is_set():
                # A server that never answered is rather a wrong URL than one that restarts
                break
            continue
        server.answered.set()
        if response.status_code not in _RETRIED:
            told = _decoded(server, response)
            if told is not None:
                return told
            fault, retry_after = "the answer broke off (no whole JSON)", None
            continue
        fault = f"HTTP {response.status_code}: {_words(response)}"
        retry_after = _retry_after(response)
    more = f", asks to wait {retry_after:.0f} s" if retry_after else ""
    raise ExportError(
        f"{server.name}: {_hidden(server, fault)}{more}; is the server up, and the URL right? Try "
        "again later, or ask for less at a time"
    )


def _sent(server: Server, path: str, question: Mapping[str, str]) -> httpx.Response:
    url = f"{server.url}/api/v1/{path}"
    form = {**server.params, **question}
    if sum(map(len, form.values())) < LONG_QUESTION:
        return server.client.get(url, params=form, headers=server.headers)
    return server.client.post(url, data=form, headers=server.headers)


def _lost(error: httpx.RequestError) -> str:
    words = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return f"no answer in time ({type(error).__name__})"
    if "CERTIFICATE" in words.upper():
        return f"{words}; set SSL_CERT_FILE to the certificates of your authority"
    return f"connection failed: {words}"


def _decoded(server: Server, response: httpx.Response) -> dict[str, Any] | None:
    """Give the JSON of an answer; None where it broke off."""
    status, body = response.status_code, response.content
    if status in (401, 403):
        raise ExportError(
            f"{server.name}: HTTP {status}, credentials are missing or refused; set "
            "CAPACITY_PROM_TOKEN_FILE, or CAPACITY_PROM_USER and CAPACITY_PROM_PASSWORD_FILE"
        )
    if status >= 400:
        raise RefusedError(status, _hidden(server, _words(response)))
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        if body.lstrip()[:1] == b"{":
            return None
        told = None
    if not isinstance(told, dict) or "status" not in told:
        kind = response.headers.get("content-type", "no content type").split(";")[0]
        raise ExportError(
            f"{server.name}: answers {_hidden(server, kind)}, which is no answer of a Prometheus "
            "API: another service, or a login page; give the base URL of Prometheus"
        )
    if told["status"] != "success":
        raise RefusedError(status, _hidden(server, prom_json.error_text(told)))
    return told


def _words(response: httpx.Response) -> str:
    """Give the server's own words in one line."""
    try:
        told = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        told = None
    text = prom_json.error_text(told) if isinstance(told, dict) else response.text
    return " ".join(text.split())[:300] or response.reason_phrase


def _retry_after(response: httpx.Response) -> float | None:
    """Give the seconds the server asks to wait (seconds or a date, RFC 9110 section 10.2.3)."""
    told = response.headers.get("retry-after", "").strip()
    if not told:
        return None
    if told.isdecimal():
        return float(told)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(told).timestamp() - time.time())
    except ValueError:
        return None


def _hidden(server: Server, text: str) -> str:
    for secret in server.secrets:
        text = text.replace(secret, "***")
    return text
