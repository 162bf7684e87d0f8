"""Credentials and certificates for a Prometheus server.

Credentials come from the environment or from files named there, or stand in the URL; they are in
no message and in no table. Each of these variables may be given with _FILE behind it, too, and then
names a file that holds the value: CAPACITY_PROM_TOKEN (Bearer), CAPACITY_PROM_USER and
CAPACITY_PROM_PASSWORD (Basic), CAPACITY_PROM_HEADERS (lines ``Name: value``, such as X-Scope-OrgID)
and CAPACITY_PROM_KEY_PASSWORD. Only files are named by CAPACITY_PROM_CA_FILE,
CAPACITY_PROM_CERT_FILE and CAPACITY_PROM_KEY_FILE (PEM; mutual TLS).
"""

from __future__ import annotations

import base64
import os
import ssl
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from capacity.errors import SettingsError


def tls() -> ssl.SSLContext:
    """Give the certificates to trust and to show."""
    authority, certificate, key = (
        os.environ.get(f"CAPACITY_PROM_{name}_FILE") for name in ("CA", "CERT", "KEY")
    )
    context = ssl.create_default_context()
    if authority:
        _loaded("CA", authority, lambda: context.load_verify_locations(authority))
    if key and not certificate:
        raise SettingsError(
            "CAPACITY_PROM_KEY_FILE: a key without its certificate; set CAPACITY_PROM_CERT_FILE"
        )
    if certificate:
        # An empty password keeps OpenSSL from asking for one at the terminal
        password = _secret("CAPACITY_PROM_KEY_PASSWORD") or ""
        _loaded("CERT", certificate, lambda: context.load_cert_chain(certificate, key, password))
    return context


def _loaded(name: str, path: str, load: Callable[[], None]) -> None:
    try:
        load()
    except ssl.SSLError:
        what = "certificates" if name == "CA" else "a certificate with its key (and its password)"
        raise SettingsError(
            f"CAPACITY_PROM_{name}_FILE: {path} and what belongs to it are not {what} in PEM"
        ) from None
    except OSError as error:
        raise SettingsError(
            f"CAPACITY_PROM_{name}_FILE: {path} or its key cannot be read: {error.strerror}"
        ) from None


def credentials(url: urllib.parse.SplitResult) -> tuple[dict[str, str], tuple[str, ...]]:
    """Give headers, and what must not be told: of the URL, else of the environment."""
    headers: dict[str, str] = {}
    secrets: list[str] = []
    if (listed := _secret("CAPACITY_PROM_HEADERS")) is not None:
        headers |= _headers_of(listed)
        secrets += headers.values()
    user, password = (urllib.parse.unquote(text or "") for text in (url.username, url.password))
    token = None if user else _secret("CAPACITY_PROM_TOKEN")
    if not user and token is None:
        user = _secret("CAPACITY_PROM_USER") or ""
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


def _headers_of(text: str) -> dict[str, str]:
    path = os.environ.get("CAPACITY_PROM_HEADERS_FILE")
    is_file = path is not None and not os.environ.get("CAPACITY_PROM_HEADERS")
    where = f"CAPACITY_PROM_HEADERS_FILE: {path}" if is_file else "CAPACITY_PROM_HEADERS"
    headers = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise SettingsError(f"{where}:{number} is no header; wanted is Name: value")
        headers[name.strip()] = value.strip()
    return headers


def _text(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise SettingsError(f"{variable}: {path} cannot be read: {why}") from None
