"""Build the documents as a site that needs no network, and check its links.

Run from anywhere: python tools/site.py [FOLDER]. Warnings of the build are errors. Links to other
sites are not followed; that nothing else is loaded from them is checked.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
START = "docs/index.html"
# What a browser loads by itself, other than following a link
LOADING = {"img", "script", "link", "iframe", "source", "video", "audio"}


class Page(HTMLParser):
    """Links, and places that links can lead to, of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[tuple[str, str]] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take notes of a tag."""
        told = {name: value or "" for name, value in attrs}
        self.places |= {told[name] for name in ("id", "name") if name in told}
        self.links += [(tag, told[name]) for name in ("href", "src") if name in told]


@cache
def _page(path: Path) -> Page:
    return Page(path)


def _missing(page: Path, link: str, target: Path) -> Iterator[str]:
    if unquote(urlsplit(link).fragment) not in _page(target).places:
        yield f"{page}: {link} has no such place"


def faults(site: Path) -> Iterator[str]:
    """Give what is wrong with links: dead, without their anchor, loaded from elsewhere."""
    for path in sorted(site.rglob("*.html")):
        for tag, link in _page(path).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if tag in LOADING and parts.scheme != "data":
                    yield f"{path.relative_to(site)}: <{tag}> loads {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{path.relative_to(site)}: {link} leads nowhere"
            elif target.suffix == ".html" and parts.fragment:
                yield from _missing(path.relative_to(site), link, target)


def build(site: Path) -> int:
    """Build the site into a folder; give Sphinx' exit code."""
    from sphinx.cmd.build import build_main

    if site.exists():
        shutil.rmtree(site)
    # -E: pages made from the package have no file whose time tells that they changed
    code = build_main(
        ["-q", "-W", "--keep-going", "-E", "-b", "html", "-c", str(ROOT / "docs"),
         "-d", str(site.parent / f"{site.name}-doctrees"), str(ROOT), str(site)]
    )  # fmt: skip
    (site / "index.html").write_text(
        f'<!doctype html><title>cilium-capacity</title><meta http-equiv="refresh" '
        f'content="0; url={START}"><a href="{START}">cilium-capacity</a>',
        encoding="utf-8",
    )
    return code


def main() -> None:
    """Build and check; exit 1 where anything is wrong."""
    site = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "site").resolve()
    code = build(site)
    found = list(faults(site))
    for fault in found:
        sys.stderr.write(f"{fault}\n")
    if code or found:
        sys.exit(1)
    sys.stdout.write(f"{len(list(site.rglob('*.html')))} pages: {site / 'index.html'}\n")


if __name__ == "__main__":
    main()
