"""A Prometheus server over HTTP: its address, patience, and what its refusals mean.

Credentials are those of prom_secrets.py; they are in no message and in no table.
"""

from __future__ import annotations

import email.utils
import ipaddress
import random
import re
import ssl
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import orjson
import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError, TimeoutError

from capacity.errors import ExportError, SettingsError
from capacity.export import without_secrets
from capacity.load import prom_json
from capacity.load.prom_secrets import credentials, tls

T = TypeVar("T")
Sending = Callable[[], urllib3.BaseHTTPResponse]

# Pauses before further attempts. [s]
WAITS: Final = (0.5, 1.0, 2.0, 4.0)
# Part by which a pause is longer at most, so that not all requests come back at once
_JITTER: Final = 0.25
_LONGEST_WAIT: Final = 30.0
# The server's own limit of a query is 2 minutes: prometheus/prometheus cmd/prometheus/main.go,
# --query.timeout (v3.5)
_TIMEOUT: Final = urllib3.Timeout(connect=10.0, read=130.0)
_CONNECTIONS: Final = 16
_REDIRECTS: Final = 5
_API_PATH: Final = re.compile(r"/(?:api/v1(?:/query(?:_range)?)?|graph|query)?/?$")
# Characters of a question that go into a URL; longer ones are posted
LONG_QUESTION: Final = 4000
# Values of a URL's query that are no longer than this are no secrets
_SHORT: Final = 7
_RETRIED: Final = (429, 500, 502, 503, 504)
# What servers say of a question that asks for too much at a time: prometheus/prometheus v3.14
# promql/engine.go (ErrTooManySamples, ErrQueryTimeout; web/api/v1/api.go makes these 422 and 503)
_TOO_MUCH: Final = re.compile(
    r"too many samples|timed? ?out|timeout|-search\.max|err-mimir-max|exceeds? the limit|"
    r"exceeded (?:the )?(?:maximum|limit)|limit exceeded|too many (?:points|series|chunks)",
    re.IGNORECASE,
)
_TOO_MUCH_STATUS: Final = (413, 422, 503, 504)


@dataclass(frozen=True, slots=True)
class Server:
    """A server: pool, URL to call and to tell, waits between attempts [s], what to hide."""

    pool: urllib3.PoolManager = field(repr=False)
    url: str
    params: Mapping[str, str] = field(repr=False)
    name: str
    waits: Sequence[float]
    secrets: tuple[str, ...] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    stopped: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)
    proven: threading.Event = field(default_factory=threading.Event)


class RefusedError(Exception):
    """The server answers, but not this question: HTTP status and its own words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status, self.text = status, text

    @property
    def is_too_much(self) -> bool:
        """Whether a smaller question may be answered."""
        if self.status in (413, 504):
            return True
        return self.status in _TOO_MUCH_STATUS and _TOO_MUCH.search(self.text) is not None


class BrokenOffError(Exception):
    """An answer that is not whole, or is garbage: asked for again."""


@contextmanager
def connected(
    url: str, headers: Mapping[str, str] | None, waits: Sequence[float]
) -> Iterator[Server]:
    """Give the server at a URL; credentials of the URL come before those of the environment.

    Raises
    ------
    ExportError
        If it is no URL of HTTP.
    SettingsError
        If a file that the environment names cannot be read.
    """
    parsed = _parsed(url)
    own, secrets = credentials(parsed)
    params = dict(urllib.parse.parse_qsl(parsed.query, keep_blank_values=True))
    secrets += tuple(value for value in params.values() if len(value) > _SHORT)
    secrets += tuple((headers or {}).values())
    path = _API_PATH.sub("", parsed.path).rstrip("/")
    base = f"{parsed.scheme}://{parsed.netloc.rpartition('@')[2]}{path}"
    host = parsed.hostname or ""
    sent = {**own, **(headers or {}), "Accept-Encoding": _encoding(host), "User-Agent": "capacity"}
    pool = _pool(parsed.scheme, host, sent)
    try:
        yield Server(pool, base, params, base, waits, secrets, sent)
    finally:
        pool.clear()


def _parsed(url: str) -> urllib.parse.SplitResult:
    shown = without_secrets(url)
    try:
        parsed = urllib.parse.urlsplit(url)
        is_web = parsed.scheme in ("http", "https") and bool(parsed.hostname)
        _ = parsed.port
    except ValueError as error:
        raise ExportError(f"{shown}: is no URL: {type(error).__name__}") from None
    if not is_web:
        raise ExportError(
            f"{shown}: only http:// and https:// are read; copy other stores to a "
            "folder first, and name that"
        )
    return parsed


def _encoding(host: str) -> str:
    """Give what answers may be packed in.

    Packing costs the server 40 ms a MB and makes answers 4 to 10 times smaller: slower than any
    network of 200 Mbit/s, and four times slower where there is none (Prometheus 2.42, 2 cores).
    """
    return "identity" if _is_local(host) else "gzip"


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _pool(scheme: str, host: str, headers: Mapping[str, str]) -> urllib3.PoolManager:
    """Give connections: certificates and proxy of the environment, no retries but redirects."""
    retries = urllib3.Retry(
        total=None, connect=0, read=0, status=0, other=0, redirect=_REDIRECTS,
        # Another host gets no header that may hold a secret
        remove_headers_on_redirect=[*urllib3.Retry.DEFAULT_REMOVE_HEADERS_ON_REDIRECT, *headers],
    )  # fmt: skip
    options: dict[str, Any] = {"retries": retries, "timeout": _TIMEOUT, "maxsize": _CONNECTIONS}
    if scheme == "https":
        options["ssl_context"] = tls()
    proxy = urllib.request.getproxies().get(scheme)
    if proxy and not _is_local(host) and not urllib.request.proxy_bypass(host):
        try:
            return urllib3.ProxyManager(proxy if "://" in proxy else f"http://{proxy}", **options)
        except (HTTPError, ValueError):
            raise SettingsError(
                f"{scheme}_proxy: {without_secrets(proxy)} is no URL of a proxy"
            ) from None
    return urllib3.PoolManager(**options)


def ask(
    server: Server, path: str, question: Mapping[str, str], *, is_divisible: bool = False
) -> dict[str, Any]:
    """Give an answer, parsed; see `answer` for what it raises."""
    return answer(server, path, question, orjson.loads, is_divisible=is_divisible)


def answer(
    server: Server,
    path: str,
    question: Mapping[str, str],
    read: Callable[[bytes], T],
    *,
    is_divisible: bool = False,
) -> T:
    """Give what `read` makes of an answer.

    Parameters
    ----------
    path
        Below /api/v1.
    read
        Makes something of the whole answer; a ValueError says that it is broken or garbage.
    is_divisible
        Whether a question that is too much is refused at once, so that parts of it can be asked.

    Raises
    ------
    RefusedError
        If the server refuses this question.
    ExportError
        If it gives no answer, asks for credentials, or answers something else than JSON.
    """

    def understood(response: urllib3.BaseHTTPResponse) -> T:
        body = response.data
        _refuse_others(server, response, body)
        try:
            return read(body)
        except ValueError:
            raise BrokenOffError("no whole JSON") from None

    return patiently(
        server, lambda: _sent(server, path, question), understood, is_divisible=is_divisible
    )


def patiently(
    server: Server,
    send: Sending,
    understand: Callable[[urllib3.BaseHTTPResponse], T],
    *,
    is_divisible: bool = False,
) -> T:
    """Send until what comes back is understood; patient with servers that are busy, and with
    connections that break. See `answer` for what it raises.
    """  # noqa: D205
    fault, retry_after = "", None
    random_part = random.SystemRandom().random
    for wait in (0.0, *server.waits):
        pause = max(wait, retry_after or 0.0)
        if pause > _LONGEST_WAIT:
            break
        if pause and server.stopped.wait(pause * (1 + _JITTER * random_part())):
            break
        retry_after = None
        try:
            response = send()
            server.answered.set()
            with response:
                if response.status not in _RETRIED:
                    _refuse(server, response)
                    found = understand(response)
                    server.proven.set()
                    return found
                words = _words(response)
                refused = RefusedError(response.status, hidden(server, words))
                if is_divisible and refused.is_too_much:
                    raise refused
                fault, retry_after = f"HTTP {response.status}: {words}", _retry_after(response)
        except BrokenOffError as error:
            fault = f"the answer broke off ({error})"
        except HTTPError as error:
            fault = _lost(error)
            if _is_nobody(error) and not server.answered.is_set():
                # A server that never answered is rather a wrong URL than one that restarts
                break
    more = f", asks to wait {retry_after:.0f} s" if retry_after else ""
    raise ExportError(
        f"{server.name}: {hidden(server, fault)}{more}; is the server up, and the URL right? Try "
        "again later, or ask for less at a time"
    )


def _sent(server: Server, path: str, question: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
    url = f"{server.url}/api/v1/{path}"
    form = {**server.params, **question}
    is_short = sum(map(len, form.values())) < LONG_QUESTION
    body = urllib.parse.urlencode(form)
    if is_short:
        return server.pool.request(
            "GET", f"{url}?{body}", headers=server.headers, preload_content=False
        )
    headers = {**server.headers, "Content-Type": "application/x-www-form-urlencoded"}
    return server.pool.request("POST", url, body=body, headers=headers, preload_content=False)


def _is_nobody(error: HTTPError) -> bool:
    cause = error.reason if isinstance(error, MaxRetryError) else error
    return isinstance(cause, NewConnectionError | urllib3.exceptions.SSLError)


def _lost(error: HTTPError) -> str:
    """Give in words why no answer came; what urllib3 says names the URL, with its query."""
    cause: BaseException = error
    if isinstance(error, MaxRetryError) and error.reason is not None:
        cause = error.reason
    if isinstance(cause, TimeoutError) and not isinstance(cause, NewConnectionError):
        return f"no answer in time ({type(cause).__name__})"
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    words = getattr(cause, "strerror", None) or str(cause.args[0] if cause.args else cause)
    if isinstance(cause, ssl.SSLError) or "CERTIFICATE" in words.upper():
        reason = getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or words
        return (
            f"TLS failed: {reason}; set CAPACITY_PROM_CA_FILE to the certificates of your "
            "authority, and CAPACITY_PROM_CERT_FILE and CAPACITY_PROM_KEY_FILE if it wants yours"
        )
    return f"connection failed: {words or type(cause).__name__}"


def _refuse(server: Server, response: urllib3.BaseHTTPResponse) -> None:
    """Raise what a status says that is not asked again."""
    status = response.status
    if status in (401, 403):
        raise ExportError(
            f"{server.name}: HTTP {status}, credentials are missing or refused; set "
            "CAPACITY_PROM_TOKEN_FILE, or CAPACITY_PROM_USER and CAPACITY_PROM_PASSWORD_FILE"
        )
    if status >= 300:
        raise RefusedError(status, hidden(server, _words(response)))


def _refuse_others(server: Server, response: urllib3.BaseHTTPResponse, body: bytes) -> None:
    """Refuse what is no answer of a Prometheus API; errors that come with status 200, too."""
    begins = body[:4096].lstrip()
    if begins[:1] == b"{" and b'"status"' in begins:
        if b'"status":"error"' in begins.replace(b" ", b""):
            raise RefusedError(response.status, hidden(server, _words_of(body) or "no reason"))
        return
    if server.proven.is_set() or begins[:1] == b"{":
        # It is the right server: something on the way spoiled this answer
        raise BrokenOffError("no JSON")
    kind = response.headers.get("content-type", "no content type").split(";")[0]
    raise ExportError(
        f"{server.name}: answers {hidden(server, kind)}, which is no answer of a Prometheus "
        "API: another service, or a login page; give the base URL of Prometheus"
    )


def _words(response: urllib3.BaseHTTPResponse) -> str:
    """Give the server's own words in one line."""
    return _words_of(response.data) or response.reason or ""


def _words_of(body: bytes) -> str:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        told = None
    text = prom_json.error_text(told) if isinstance(told, dict) else body.decode("utf-8", "replace")
    return " ".join(text.split())[:300]


def _retry_after(response: urllib3.BaseHTTPResponse) -> float | None:
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


def hidden(server: Server, text: str) -> str:
    """Give a text without the server's secrets."""
    for secret in server.secrets:
        text = text.replace(secret, "***")
    return text
