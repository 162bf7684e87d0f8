"""How the site of the documents is built: `python tools/site.py` (extra `docs`).

The source is the whole tree, so that links between documents are those that GitHub follows.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools")]

project = "cilium-capacity"
author = "the authors of cilium-capacity"
language = "en"
root_doc = "docs/index"
include_patterns = [
    "docs/**.md", "data/**.md", "notebooks/README.md", "reports/README.md", "benchmarks/README.md",
    "tests/golden/**README.md", "CHANGELOG.md", "README.md",
]  # fmt: skip
exclude_patterns = ["**/.*", ".*", "build", "plan", "docs/examples", "**/node_modules"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "reference_pages"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["myst.header"]
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": False}
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "cilium-capacity"
html_copy_source = False
html_show_copyright = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]
pygments_style = "friendly"
pygments_dark_style = "github-dark"
