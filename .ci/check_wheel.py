"""
Install a built wheel into an empty environment and look whether it works there.

Usage: check_wheel.py DIST ENVIRONMENT
"""

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path


def main(dist: str, environment: str) -> None:
    """Fail loudly where something is missing."""
    (wheel,) = Path(dist).glob("*.whl")
    programs = Path(environment) / "bin"
    venv.create(environment, clear=True, with_pip=True)
    _run(programs / "python", "-m", "pip", "install", "-q", wheel.absolute())
    described = _run(programs / "twistd", "--help")
    assert "    llmux  " in described, described
    assert "--log-format" in _run(programs / "twistd", "llmux", "--help")
    assert _run(programs / "llmux", "--version").startswith("llmux ")
    (source,) = Path(dist).glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        forgotten = {n for n in names if n.startswith("llmux/") and n.endswith(".py")}
        forgotten -= set(archive.namelist())
    assert not forgotten, f"not in {wheel.name}: {forgotten}; name their packages in setup.cfg"
    for needed in ("README.rst", "LICENSE", "llmux/py.typed", "twisted/plugins/llmux_plugin.py"):
        assert needed in names, f"{needed} is not in {source.name}"
    print("the wheel and the source distribution are complete")


def _run(*command: object) -> str:
    words = [str(word) for word in command]
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, cwd="/").stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
