"""How the documentation is built: ``sphinx-build -W --keep-going -b html docs docs/_build``."""

import re
from pathlib import Path

_VERSION = Path(__file__).parents[1] / "llmux" / "_version.py"

project = "llmux"
author = "the llmux authors"
copyright = f"2026, {author}"
release = version = re.findall(r'__version__ = "(.+)"', _VERSION.read_text())[0]

exclude_patterns = ["_build"]
highlight_language = "none"  # code that is coloured says what it is

html_theme = "alabaster"
html_theme_options = {
    "description": "One address in front of several LLM servers",
    "fixed_sidebar": True,
    "page_width": "1080px",
}
html_copy_source = False
html_show_sourcelink = False
