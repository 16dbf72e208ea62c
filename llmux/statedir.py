"""Where state is kept: hooks' output, and what hooks want to keep for themselves."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from llmux.errors import ConfigError, Problem

_LONGEST_NAME = 200  # bytes; most file systems take 255


def state_directory(configured: Path | None, config_path: Path | None) -> Path:
    """
    Find the state directory of a configuration and make it, readable to its owner alone.

    :param configured: ``state_dir``, if the configuration has one.
    :param config_path: the configuration's file; each has a directory of its own under
        ``$XDG_STATE_HOME/llmux`` (``~/.local/state/llmux``).
    :raises ConfigError: if it cannot be made or written to.
    """
    try:
        directory = configured or _default(config_path)
    except RuntimeError as error:
        raise _unusable(config_path, Path("~"), "nobody knows this home directory") from error
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        writable = os.access(directory, os.W_OK | os.X_OK)
    except FileExistsError as error:
        raise _unusable(config_path, directory, "it is no directory") from error
    except OSError as error:
        raise _unusable(config_path, directory, str(error.strerror)) from error
    if not writable:
        raise _unusable(config_path, directory, "it is not writable")
    return directory


def model_directory(state: Path, model: str) -> Path:
    """
    Find the directory of one model in a state directory, and make it.

    :param model: the model's name; whatever it holds, the directory stays below ``state``.
    """
    directory = _model_directory(state, model)
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


@lru_cache  # for each hook it is asked again
def _model_directory(state: Path, model: str) -> Path:
    name = quote(model, safe=" ").replace(".", "%2E", 1 if model.startswith(".") else 0)
    if len(name) > _LONGEST_NAME:
        digest = hashlib.sha256(model.encode()).hexdigest()[:16]
        name = f"{name[: _LONGEST_NAME - 17]}-{digest}"
    return state / "models" / name


def _default(config_path: Path | None) -> Path:
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    base = Path(home).expanduser() / "llmux"
    if config_path is None:
        return base / "embedded"
    resolved = config_path.resolve()
    digest = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:8]
    return base / f"{resolved.stem}-{digest}"


def _unusable(config_path: Path | None, directory: Path, why: str) -> ConfigError:
    message = f"{directory} cannot be used: {why}; set state_dir to a directory that can"
    return ConfigError(str(config_path or "llmux"), [Problem(None, "state_dir", None, message)])
