"""The report in a real Chromium: charts are drawn, nothing is loaded, light, dark and on a phone.

Chromium is steered by its own DevTools protocol over a pipe (--remote-debugging-pipe: JSON
messages ended by a zero byte, read from file descriptor 3, written to 4), so no driver is needed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.notebook]

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-pipe",
)  # fmt: skip
CHARTS = 8
# Edges of bands, and the second and third limit line, which differ by dashes and name too
DECORATION = {(86, 180, 233), (204, 121, 167), (230, 159, 0)}
# Colors of what a reader sees: text against the page behind it
TEXT_COLORS = """
[...document.querySelectorAll(
  ".chart text, p, strong, td, th, caption, figcaption, dt, dd, summary, pre, a")]
  .filter(e => e.textContent.trim() && !e.closest(".hoverlayer, .skip"))
  .map(e => getComputedStyle(e)[e instanceof SVGElement ? "fill" : "color"])
"""
LINE_COLORS = """
[...document.querySelectorAll(".chart .js-line, .chart .scatterlayer .points path")]
  .map(e => getComputedStyle(e)).flatMap(s => [s.stroke, s.fill])
  .filter(color => color.startsWith("rgb("))
"""
CUT_OFF = """
[...document.querySelectorAll(".chart")].flatMap(chart => {
  const frame = chart.getBoundingClientRect();
  return [...chart.querySelectorAll("text")].filter(text => {
    const box = text.getBoundingClientRect();
    return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1 ||
                         box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
  }).map(text => text.textContent);
})
"""


class Browser:
    """One tab of a headless Chromium; `events` are what it told unasked."""

    def __init__(self, program: str, profile: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._count, self._unread = 0, b""
        to_read, to_write = os.pipe()
        from_read, from_write = os.pipe()
        line = f'exec "$@" 3<&{to_read} 4>&{from_write}'
        command = ["bash", "-c", line, "bash", program, *FLAGS, f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(
            command, pass_fds=(to_read, from_write), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(from_write)
        self._in, self._out = to_write, from_read
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            part = os.read(self._out, 1 << 16)
            if not part:
                raise EOFError("Chromium ended")
            self._unread += part
        message, self._unread = self._unread.split(b"\0", 1)
        return json.loads(message)  # type: ignore[no-any-return]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": params, **self._session}
        os.write(self._in, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]  # type: ignore[no-any-return]
            self.events.append(answer)

    def open(self, page: Path, *, width: int, scheme: str) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
            mobile=width < 600,
        )  # fmt: skip
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._receive())
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 300)))")

    def evaluate(self, script: str) -> Any:
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def close(self) -> None:
        os.write(self._in, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        self.process.wait(timeout=20)
        os.close(self._in)
        os.close(self._out)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None or shutil.which("bash") is None:
        pytest.skip("chromium and bash are needed to open a page: apt-get install chromium")
    opened = Browser(program, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light")], scope="module", ids=str)
def view(request: pytest.FixtureRequest, browser: Browser, pages: Path) -> tuple[Browser, str]:
    width, scheme = request.param
    browser.open(pages / "plan.html", width=width, scheme=scheme)
    return browser, scheme


def test_a_page_opens_without_errors_and_draws_each_chart(view: tuple[Browser, str]) -> None:
    browser, _ = view
    told = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    assert [e for e in browser.events if e["method"] in told] == []
    drawn = "[...document.querySelectorAll('.chart')].map(c => c.querySelectorAll('.trace').length)"
    traces = browser.evaluate(drawn)
    assert len(traces) == CHARTS
    assert all(traces)


def test_a_page_asks_the_network_for_nothing(view: tuple[Browser, str]) -> None:
    browser, _ = view
    asked = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [
        browser.evaluate("location.href")
    ]


def test_the_page_is_no_wider_than_the_screen_and_no_chart_text_is_cut(
    view: tuple[Browser, str],
) -> None:
    browser, _ = view
    assert browser.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    assert browser.evaluate(CUT_OFF) == []


def test_text_and_lines_have_contrast_in_light_and_dark(view: tuple[Browser, str]) -> None:
    browser, scheme = view
    paper = rgb(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (luminance(paper) > 0.5) == (scheme == "light")
    # WCAG 2.2: 4.5 for text (1.4.3), 3 for what is needed to read a chart (1.4.11)
    for script, wanted in ((TEXT_COLORS, 4.5), (LINE_COLORS, 3.0)):
        colors = {rgb(color) for color in browser.evaluate(script)} - DECORATION
        assert colors
        for color in colors:
            light, dark = sorted((luminance(color), luminance(paper)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= wanted, color


def test_a_printed_page_holds_the_charts_within_the_paper(browser: Browser, pages: Path) -> None:
    browser.open(pages / "plan.html", width=1280, scheme="dark")
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    browser.call("Emulation.setEmulatedMedia", media="print")
    widths = browser.evaluate("[...document.querySelectorAll('.main-svg')].map(s => s.clientWidth)")
    assert max(widths) <= 700
    paper = rgb(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert luminance(paper) == pytest.approx(1.0)
    browser.call("Emulation.setEmulatedMedia", media="")


def rgb(color: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", color)[:3])


def luminance(color: tuple[int, ...]) -> float:
    """WCAG 2.2 relative luminance."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in color)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
