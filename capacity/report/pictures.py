"""Charts as PNG or PDF, drawn by kaleido with the Chromium of this machine."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Final, Literal

from capacity.errors import SettingsError

Kind = Literal["png", "pdf"]
_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
_SIZE: Final = {"width": 1100, "height": 550, "scale": 2}


def check() -> None:
    """Say what is missing before anything runs.

    Raises
    ------
    SettingsError
        If kaleido or a Chromium is not installed.
    """
    if find_spec("kaleido") is None:
        raise SettingsError("--pictures needs `pip install 'cilium-capacity[pictures]'`")
    if _browser() is None:
        raise SettingsError(
            f"--pictures needs one of {', '.join(_BROWSERS)} on the PATH; on Debian "
            "`apt-get install chromium`"
        )


def _browser() -> str | None:
    return next((found for name in _BROWSERS if (found := shutil.which(name))), None)


def pictures(figures: Sequence[dict[str, Any]], kind: Kind) -> list[bytes]:
    """Draw charts, given as plotly's JSON; one browser draws them all.

    Raises
    ------
    SettingsError
        If kaleido or a Chromium is not installed, or it does not draw.
    """
    check()
    if not figures:
        return []
    import asyncio

    return asyncio.run(_draw(figures, kind))


async def _draw(figures: Sequence[dict[str, Any]], kind: Kind) -> list[bytes]:
    from choreographer.errors import BrowserClosedError, BrowserFailedError
    from kaleido import Kaleido

    made = []
    try:
        # Nothing is fetched: plotly.js comes with plotly, formulas are not used
        async with Kaleido(n=1, timeout=60, mathjax=False, path=_browser()) as drawer:
            for figure in figures:
                options = {"format": kind, **_SIZE}
                made.append(bytes(await drawer.calc_fig(figure, opts=options)))
    except (BrowserClosedError, BrowserFailedError, TimeoutError, RuntimeError) as error:
        raise SettingsError(f"pictures: Chromium does not draw: {error}") from None
    return made
