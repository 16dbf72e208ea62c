"""Tests of :mod:`llmux.statedir`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.errors import ConfigError
from llmux.statedir import model_directory, state_directory

names = st.one_of(
    st.text(min_size=1),
    st.text("./\\%~ ", min_size=1),
    st.text("ab/.%", min_size=1).map(lambda end: "x" * 190 + end * 20),
)


def mode(path: Path) -> int:
    """Give the permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


class StateDirectoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Let the user's state be kept in a directory of the test's own."""
        self.home = Path(self.mktemp()).absolute()
        self.set_state_home(str(self.home))

    def set_state_home(self, value: str) -> None:
        """Set where the user's state is kept, until the test is over."""
        before = os.environ.get("XDG_STATE_HOME")
        os.environ["XDG_STATE_HOME"] = value

        def restore() -> None:
            del os.environ["XDG_STATE_HOME"]
            if before is not None:
                os.environ["XDG_STATE_HOME"] = before

        self.addCleanup(restore)

    def test_configured(self) -> None:
        """The directory that the configuration names is made and taken."""
        wanted = Path(self.mktemp(), "deep", "er")
        self.assertEqual(state_directory(wanted, Path("config.yaml")), wanted)
        self.assertEqual((wanted.is_dir(), mode(wanted)), (True, 0o700))
        self.assertFalse(self.home.exists())

    def test_default(self) -> None:
        """Else it is under the user's state, for its owner alone, and called like the file."""
        directory = state_directory(None, Path("/etc/llmux/big.yaml"))
        self.assertEqual(directory.parent, self.home / "llmux")
        self.assertTrue(directory.name.startswith("big-"), directory)
        self.assertEqual((directory.is_dir(), mode(directory)), (True, 0o700))

    def test_one_for_each_file(self) -> None:
        """Two files of the same name have two; the same file has the same, however it is named."""
        path = Path(self.mktemp())
        path.mkdir()
        (path / "link").symlink_to(path.absolute())
        same = (path / "c.yaml", path.absolute() / "c.yaml", path / "link" / "c.yaml")
        self.assertEqual(len({state_directory(None, name) for name in same}), 1)
        others = {Path("/a/c.yaml"), Path("/b/c.yaml"), Path("/a/c.json")}
        self.assertEqual(len({state_directory(None, name) for name in others}), 3)

    def test_embedded(self) -> None:
        """A configuration that is no file has one of its own, too."""
        self.assertEqual(state_directory(None, None), self.home / "llmux" / "embedded")

    def test_home(self) -> None:
        """Where the system says nothing, the user's state is under the home directory."""
        self.set_state_home("")
        before = os.environ.get("HOME", "")
        self.addCleanup(os.environ.__setitem__, "HOME", before)
        os.environ["HOME"] = str(self.home)
        directory = state_directory(None, None)
        self.assertEqual(directory, self.home / ".local" / "state" / "llmux" / "embedded")

    def test_again(self) -> None:
        """A directory that is there already is taken as it is."""
        directory = state_directory(None, None)
        (directory / "kept").write_text("x")
        directory.chmod(0o750)
        self.assertEqual(state_directory(None, None), directory)
        self.assertEqual((mode(directory), (directory / "kept").exists()), (0o750, True))

    def assert_unusable(self, configured: Path | None, why: str) -> None:
        """Check what is said where no state can be kept."""
        error = self.assertRaises(ConfigError, state_directory, configured, Path("c.yaml"))
        self.assertEqual(
            str(error),
            f"c.yaml: state_dir: {configured or '~'} cannot be used: {why};"
            " set state_dir to a directory that can",
        )

    def test_unusable(self) -> None:
        """A directory that cannot be made is an error of the configuration, with the way out."""
        path = Path(self.mktemp())
        path.write_text("a file")
        self.assert_unusable(path, "it is no directory")
        self.assert_unusable(path / "below", "Not a directory")

    def test_not_writable(self) -> None:
        """A directory that can be read alone is an error at the start, not at the first hook."""
        read_only = Path(self.mktemp())
        read_only.mkdir(0o500)
        for path in (read_only, Path("/proc/sys")):  # where not even root can write
            if path.is_dir() and not os.access(path, os.W_OK):
                break
        else:
            self.skipTest("everything is writable here")
        self.assert_unusable(path, "it is not writable")

    def test_nobodys_home(self) -> None:
        """A user without a home directory is told to name another one."""
        self.set_state_home("~no-such-user")
        self.assert_unusable(None, "nobody knows this home directory")


class ModelDirectoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a state directory."""
        self.state = Path(self.mktemp())

    def test_names(self) -> None:
        """A model's directory can be recognized, and stays the same from version to version."""
        expected = {
            "llama": "llama",
            "facebook/opt-125m": "facebook%2Fopt-125m",
            "gpt 4": "gpt 4",
            "3.1": "3.1",
            "..": "%2E.",
            ".hidden": "%2Ehidden",
            "100%": "100%25",
            "m\u00f6": "m%C3%B6",
        }
        for model, name in expected.items():
            self.assertEqual(model_directory(self.state, model), self.state / "models" / name)

    def test_private(self) -> None:
        """It is there, and its owner's alone."""
        directory = model_directory(self.state, "a")
        self.assertEqual((directory.is_dir(), mode(directory)), (True, 0o700))
        self.assertEqual(model_directory(self.state, "a"), directory)

    @given(st.lists(names, unique=True, max_size=6))
    def test_never_leaves(self, models: list[str]) -> None:
        """Whatever names there are, each has one directory of its own, right below the state."""
        directories = [model_directory(self.state, model) for model in models]
        self.assertEqual(len({str(directory) for directory in directories}), len(models))
        for directory in directories:
            self.assertEqual(directory.resolve().parent, (self.state / "models").resolve())
            self.assertTrue(directory.is_dir())
            self.assertLessEqual(len(os.fsencode(directory.name)), 200)
