"""Which paths are blocked, in every spelling."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.web.paths import BlockedPaths

BLOCKED = BlockedPaths(["/sleep", "/models/unload"])


class BlockedPathsTests(SynchronousTestCase):
    def test_blocked(self) -> None:
        """A blocked path is found in every way in which a server could read it."""
        for target in (
            b"/sleep", b"/sleep/", b"/sleep?level=2", b"/sleep/now", b"//sleep", b"/./sleep",
            b"/v1/../sleep", b"/%73leep", b"/%2573leep", b"/SLEEP", b"/sleep;a=b",
            b"/%2e%2e/sleep", b"/\\sleep", b"%2Fsleep", b"/models%2Funload", b"/models//unload/x",
            b"/models/x/../unload", b"/models/%252e/unload",
        ):  # fmt: skip
            self.assertIn(target, BLOCKED, target)

    def test_not_blocked(self) -> None:
        """Paths that only look like a blocked one are left alone."""
        for target in (
            b"/", b"/sleepy", b"/v1/sleep", b"/models", b"/models/unloaded", b"/x?y=/sleep",
            b"/sleep/..", b"/a%zz", b"/v1/chat/completions",
        ):  # fmt: skip
            self.assertNotIn(target, BLOCKED, target)

    def test_nothing_is_blocked(self) -> None:
        """With an empty list every path is open."""
        self.assertNotIn(b"/sleep", BlockedPaths([]))

    def test_very_long_paths(self) -> None:
        """A path of many segments, or encoded over and over, is read as far as a server would."""
        self.assertNotIn(b"/a" * 32_000, BLOCKED)
        self.assertIn(b"/sleep" + b"/a" * 32_000, BLOCKED)
        self.assertNotIn(b"/%25" + b"25" * 30_000 + b"73leep", BLOCKED)

    @given(st.lists(st.booleans(), min_size=5, max_size=5), st.integers(1, 4))
    def test_encoded_any_number_of_times(self, encoded: list[bool], times: int) -> None:
        """Which letters are percent-encoded, and how often, makes no difference."""
        letters = [
            f"%{ord(letter):02x}" if encode else letter
            for letter, encode in zip("sleep", encoded, strict=True)
        ]
        path = "".join(letters)
        for _ in range(times):
            path = quote(path)
        self.assertIn(b"/" + path.encode(), BLOCKED)
