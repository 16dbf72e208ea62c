"""
Look whether an installed wheel works.

Usage: check_wheel.py ENVIRONMENT DIST
"""

import subprocess
import sys
import tarfile
from pathlib import Path


def main(environment: str, dist: str) -> None:
    """Fail loudly where something is missing."""
    programs = Path(environment) / "bin"
    described = _run(programs / "twistd", "--help")
    assert "llmux" in described, described
    assert "--log-format" in _run(programs / "twistd", "llmux", "--help")
    assert _run(programs / "llmux", "--version").startswith("llmux ")
    (source,) = Path(dist).glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for needed in ("README.rst", "LICENSE", "llmux/py.typed", "twisted/plugins/llmux_plugin.py"):
        assert needed in names, f"{needed} is not in {source.name}"
    print("the wheel and the source distribution are complete")


def _run(*command: object) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd="/")
    return done.stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
