"""The site on localhost: read-only, inside its folder, quick with many clusters, usable by keys."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capacity.errors import SettingsError
from capacity.report.site import clusters_page
from capacity.serving import server
from tests.test_browser import Browser, browser

__all__ = ["browser"]
CLUSTERS = 1000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "out"
    (folder / "sub").mkdir(parents=True)
    rows = []
    for i in range(CLUSTERS):
        verdict = ("fits", "short", "unknown")[i % 3]
        first = {"resource": f"map m{i % 7}", "nodes": 100 + i, "date": f"2027-01-{1 + i % 28:02}"}
        run = {"cluster": f"cluster-{i}", "verdict": verdict, "changes": [], "notebooks": {},
               "first_limit": first if i % 3 else None, "headline": "h"}  # fmt: skip
        rows.append((f"cluster-{i}", "2026-01-01", run))
    (folder / "index.html").write_text(clusters_page(rows), encoding="utf-8")
    (folder / ".lock").write_text("hidden", encoding="utf-8")
    (folder.parent / "outside.html").write_text("outside", encoding="utf-8")
    (folder / "out.html").symlink_to(folder.parent / "outside.html")
    return folder


@pytest.fixture(scope="module")
def port(site: Path) -> Iterator[int]:
    with server(site, 0) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield int(serving.server_address[1])
        serving.shutdown()
        thread.join()


def ask(port: int, method: str, path: str, host: str = "localhost") -> tuple[int, str, str]:
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    asking.request(method, path, headers={"Host": host})
    answer = asking.getresponse()
    told = answer.status, answer.read().decode(), answer.headers["Content-Security-Policy"] or ""
    asking.close()
    return told


def test_pages_are_given_and_may_load_nothing(port: int) -> None:
    status, text, policy = ask(port, "GET", "/")
    assert status == 200
    assert "cluster-999" in text
    assert "default-src 'none'" in policy


@pytest.mark.parametrize(
    "path",
    ["/.lock", "/%2elock", "/../outside.html", "/%2e%2e/outside.html", "/..%2foutside.html",
     "/out.html", "/sub/", "/etc/passwd", "/sub/../.lock"],
)  # fmt: skip
def test_what_is_hidden_or_outside_is_not_given(port: int, path: str) -> None:
    status, text, _ = ask(port, "GET", path)
    assert status == 404
    assert "hidden" not in text
    assert "outside" not in text.replace(path, "")


def test_nothing_can_be_written_and_other_names_are_refused(port: int) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert ask(port, method, "/index.html")[0] == 501
    assert ask(port, "GET", "/", host="evil.example")[0] == 403


def test_a_folder_without_reports_and_a_taken_port_are_named(site: Path, port: int) -> None:
    with pytest.raises(SettingsError, match="no reports there"):
        server(site / "sub", 0)
    with pytest.raises(SettingsError, match=f"--port {port}"):
        server(site, port)


@pytest.mark.browser
def test_an_index_of_1000_clusters_is_quick_quiet_and_usable_by_keys(
    browser: Browser, site: Path
) -> None:
    began = time.monotonic()
    browser.open(site / "index.html", width=1280, scheme="light")
    took = time.monotonic() - began
    told = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    assert [e for e in browser.events if e["method"] in told] == []
    loaded = browser.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert 0 < loaded < 2000, (loaded, took)
    assert browser.evaluate("document.querySelectorAll('#clusters tbody tr').length") == CLUSTERS
    press(browser, "Tab")
    assert browser.evaluate("document.activeElement.className") == "skip"
    press(browser, "Tab")
    assert browser.evaluate("document.activeElement.id") == "find"
    browser.call("Input.insertText", text="cluster-99")
    assert browser.evaluate("document.getElementById('found').textContent") == "11 of 1000"
    press(browser, "Tab")
    press(browser, "Tab")
    press(browser, "Enter")
    sort = "document.querySelector('th[aria-sort]')?.getAttribute('aria-sort')"
    assert browser.evaluate(sort) == "ascending"
    first = "[...document.querySelectorAll('#clusters tbody tr')].find(r => !r.hidden).textContent"
    assert "cluster-99" in browser.evaluate(first)
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    browser.open(site / "index.html", width=390, scheme="dark")
    assert browser.evaluate(wide)


def press(browser: Browser, key: str) -> None:
    code = {"Tab": 9, "Enter": 13}[key]
    more = {"text": "\r"} if key == "Enter" else {}
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                     windowsVirtualKeyCode=code, **(more if kind == "keyDown" else {}))  # fmt: skip
