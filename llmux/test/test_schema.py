"""Tests of :mod:`llmux.schema` and :mod:`llmux.config`: what is said of mistakes in a file."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from llmux.errors import ConfigError
from llmux.test.test_config import MINIMAL, load


def complaints(
    text: str, name: str = "c.yaml", host: str | None = None, port: int | None = None
) -> list[str]:
    """Give what is said of a file, one complaint each; nothing where it is good."""
    try:
        load(text, name, host, port)
    except ConfigError as error:
        return str(error).splitlines()
    return []


def model(*lines: str, port: str = "port: 8001") -> str:
    """Write a file of one model with some more lines, which begin with the file's line 4."""
    all_lines = [port, *lines, "wake: w", "sleep: s"]
    return "models:\n  a:\n" + "".join(f"    {line}\n" for line in all_lines if line)


class ComplaintTests(SynchronousTestCase):
    def assert_complaint(self, text: str, *expected: str, name: str = "c.yaml") -> None:
        """Check all that is said of a file."""
        self.assertEqual(complaints(text, name), [f"{name}:{line}" for line in expected])

    def test_all_at_once(self) -> None:
        """Everything that is wrong with a file is said in one go, in the order of its lines."""
        text = """\
port: 70000
modles: {}
models:
  a:
    port: 8001
    Port: 8001
    wake: ''
    sleep: s
    sleep: t
  b:
    url: ftp://gpu
    wake: [w]
policy:
  drain_before_switch: yes
"""
        self.assert_complaint(
            text,
            "1: port: a port is a whole number from 1 to 65535 (it is '70000')",
            "2: modles: unknown key; did you mean models?",
            "6: models.a.Port: unknown key; did you mean port? (it is '8001')",
            "7: models.a.wake: this is empty; a hook is a shell script or the path of one"
            " (it is '')",
            "9: models.a.sleep: duplicate key; line 8 has it too",
            "10: models.b: sleep is missing",
            "11: models.b.url: a url looks like http://127.0.0.1:8001 (it is 'ftp://gpu')",
            "12: models.b.wake: this must be a single value, not a list or a mapping;"
            " a hook is a shell script or the path of one",
            "14: policy.drain_before_switch: this must be true or false (it is 'yes')",
        )

    def test_json(self) -> None:
        """Complaints about JSON name the line just the same."""
        text = """{"models": {"a": {"port": "8001", "wake": "w",
            "sleep": "", "sleep": "s"}},
            "prot": 3000}"""
        self.assert_complaint(
            text,
            "1: models.a.port: this is text; write a number without quotes (it is '8001')",
            "2: models.a.sleep: duplicate key; line 2 has it too",
            "2: models.a.sleep: this is empty; a hook is a shell script or the path of one"
            " (it is '')",
            "3: prot: unknown key; did you mean port? (it is '3000')",
            name="c.json",
        )

    def test_unknown_keys(self) -> None:
        """An unknown key is an error: with the key that was meant, or those that there are."""
        text = model("wakeup: x") + "policy: {min_active_sec: 5}\nhooks: {colour: 1}\n"
        self.assert_complaint(
            text,
            "4: models.a.wakeup: unknown key; did you mean wake? (it is 'x')",
            "7: policy.min_active_sec: unknown key; did you mean min_active_secs? (it is '5')",
            "8: hooks.colour: unknown key; remove it, or use one of: wake_timeout_secs,"
            " sleep_timeout_secs, alive_timeout_secs, prepare_timeout_secs, alive_interval_secs"
            " (it is '1')",
        )

    def test_keys_in_the_wrong_place(self) -> None:
        """A key that stands in the wrong section is told where it belongs."""
        text = (
            "min_active_secs: 5\nwake_timeout_secs: 5\n"
            "policy: {sleep_timeout_secs: 5}\nhooks: {request_timeout_secs: 5}\n"
        )
        self.assert_complaint(
            text + MINIMAL,
            "1: min_active_secs: unknown key; it belongs under policy: (it is '5')",
            "2: wake_timeout_secs: unknown key; it belongs under hooks: (it is '5')",
            "3: policy.sleep_timeout_secs: unknown key; it belongs under hooks: (it is '5')",
            "4: hooks.request_timeout_secs: unknown key; it belongs under policy: (it is '5')",
        )

    def test_no_models(self) -> None:
        """A file without a model is refused, whatever stands in their place."""
        self.assert_complaint("port: 3000", "1: no models: at least one is needed")
        self.assert_complaint("models:", "1: models: no models: at least one is needed (it is '')")
        for nothing in ("{}", "{x-a: {wake: w}}", "{x-a: text}"):
            self.assert_complaint(
                f"port: 3000\nmodels: {nothing}",
                "2: models: no models: at least one is needed",
            )

    def test_not_a_mapping(self) -> None:
        """Where keys belong, something else is one mistake and not five."""
        mapping = "this must be a mapping, with key: value lines"
        for text in ("- a\n- b", "hello", "'null'"):
            self.assert_complaint(text, f"1: {mapping}")
        self.assert_complaint("models: [a]", f"1: models: {mapping}")
        self.assert_complaint("models: a", f"1: models: {mapping}")
        self.assert_complaint("models:\n  a: 8001", f"2: models.a: {mapping}")
        self.assert_complaint(MINIMAL + "policy: fifo", f"6: policy: {mapping}")
        self.assert_complaint("[1]", f"1: {mapping}", name="c.json")

    def test_missing(self) -> None:
        """A model needs an address and its two hooks."""
        self.assert_complaint(
            "models:\n  a:",
            "2: models.a: a model needs a port or a url",
            "2: models.a: wake is missing",
            "2: models.a: sleep is missing",
        )

    def test_port_and_url(self) -> None:
        """A model with two addresses is refused."""
        text = model("url: http://gpu")
        self.assert_complaint(
            text, "4: models.a.url: a model has a port or a url, not both (it is 'http://gpu')"
        )

    def test_hooks(self) -> None:
        """A hook that is empty, nothing or no text is refused, for it would always succeed."""
        for hook in ("wake", "sleep", "alive"):
            rest = [f"{name}: x" for name in ("wake", "sleep") if name != hook]
            for value in ("", "''", "'  '", "null", "~", "|\n\n", "[a]", "{a: b}", r'"a\0b"'):
                lines = "".join(f"    {line}\n" for line in ["port: 8001", *rest])
                (said,) = complaints(f"models:\n  a:\n{lines}    {hook}: {value}\n")
                self.assertIn(f"models.a.{hook}: this ", said)
                self.assertIn("; a hook is a shell script or the path of one", said)

    def test_ports(self) -> None:
        """A port is a whole number from 1 to 65535."""
        range_ = "a port is a whole number from 1 to 65535"
        for word in ("0", "65536", "-1", "1.5", "1e9", "1e400", "0x10000"):
            self.assert_complaint(
                model(port=f"port: {word}"), f"3: models.a.port: {range_} (it is {word!r})"
            )
            self.assert_complaint(
                f"port: {word}\n" + MINIMAL, f"1: port: {range_} (it is {word!r})"
            )
        self.assert_complaint(
            model(port="port: '8001'"),
            "3: models.a.port: this is text; write a number without quotes (it is '8001')",
        )
        self.assert_complaint(
            model(port="port: [8001]"),
            "3: models.a.port: this must be a number, not a list or a mapping",
        )
        self.assert_complaint(
            model(port=f"port: {'1' * 31}"),
            f"3: models.a.port: this number has too many digits (it is '{'1' * 31}')",
        )

    def test_no_numbers(self) -> None:
        """What is a number elsewhere, but not in YAML 1.2, is none."""
        words = (
            "1_000",
            "30:00",
            ".inf",
            ".nan",
            "1e",
            "0o8",
            "0xg",
            "10s",
            "",
            "~",
            "true",
            "\u0661",
        )
        for word in words:
            shown = f" (it is {word!r})"
            self.assert_complaint(
                model(port=f"port: {word}"), f"3: models.a.port: this must be a number{shown}"
            )

    def test_durations(self) -> None:
        """A duration is not negative, and a deadline not nothing."""
        duration = "a duration is a number of seconds, 0 or more"
        for key in ("min_active_secs", "request_timeout_secs", "wake_timeout_secs"):
            for word in ("-1", "-0.1", "1e400"):
                self.assert_complaint(
                    model(f"{key}: {word}"), f"4: models.a.{key}: {duration} (it is {word!r})"
                )
        for key in ("wake_timeout_secs", "sleep_timeout_secs", "alive_timeout_secs"):
            self.assert_complaint(
                model(f"{key}: 0"),
                f"4: models.a.{key}: a deadline is a number of seconds, more than 0 (it is '0')",
            )
            self.assert_complaint(
                model(f"{key}: null"), f"4: models.a.{key}: this must be a number (it is 'null')"
            )
        self.assertEqual(complaints(model("request_timeout_secs: 0", "min_active_secs: 0")), [])

    def test_booleans(self) -> None:
        """The booleans are those of YAML 1.2, unquoted: yes is none."""
        key = "drain_before_switch"
        for word in ("yes", "no", "on", "off", "y", "1", "tRUE", "null"):
            self.assert_complaint(
                model(f"{key}: {word}"),
                f"4: models.a.{key}: this must be true or false (it is {word!r})",
            )
        self.assert_complaint(
            model(f"{key}: 'true'"),
            f"4: models.a.{key}: this is text; write true or false without quotes (it is 'true')",
        )

    def test_policy_names(self) -> None:
        """A policy that there is not is told which there are."""
        self.assert_complaint(
            MINIMAL + "policy: {name: fifi}",
            "6: policy.name: no policy is called so; did you mean fifo?; there are: fifo, quantum,"
            " balanced (it is 'fifi')",
        )

    def test_urls(self) -> None:
        """A url names a server and nothing else."""
        wrong = {
            "gpu:8001": "a url looks like http://127.0.0.1:8001",
            "127.0.0.1:8001": "a url looks like http://127.0.0.1:8001",
            "http://": "a url looks like http://127.0.0.1:8001",
            "unix:///run/a.sock": "a url looks like http://127.0.0.1:8001",
            "http://gpu/v1": "a url names a server alone (http://host:port)",
            "http://gpu?x=1": "a url names a server alone (http://host:port)",
            "http://gpu#x": "a url names a server alone (http://host:port)",
            "http://me:pw@gpu": "a url names a server alone (http://host:port)",
            "http://gpu:0": "a port is a whole number from 1 to 65535",
            "http://gpu:70000": "this is not a URL: ",
            "http://gpu:x": "this is not a URL: ",
            "http://[::1": "this is not a URL: ",
            "http://bücher.example": "a url's host is an ASCII name or an address",
            "http://a b": "a url's host is an ASCII name or an address",
        }
        for url, message in wrong.items():
            (said,) = complaints(model(port=f"url: '{url}'"))
            self.assertTrue(said.startswith(f"c.yaml:3: models.a.url: {message}"), said)
            self.assertTrue(said.endswith(f" (it is {url!r})"), said)

    def test_names(self) -> None:
        """A model has a name, and one that can be shown."""
        for name in ('""', r'"a\nb"', r'"\e[1m"'):
            (said,) = complaints(MINIMAL.replace("a:", f"{name}:"))
            self.assertIn("a model needs a name of printable characters", said)

    def test_own_address(self) -> None:
        """A model whose requests would come back to llmux is refused."""
        own = [
            # llmux's host and port, the model's address
            (None, None, "port: 3000"),
            (None, 8001, "port: 8001"),
            ("10.0.0.7", 80, "url: http://10.0.0.7"),
            ("GPU.lan", 80, "url: http://gpu.LAN"),
            ("localhost", None, "port: 3000"),
            ("127.0.0.1", None, "url: http://LOCALHOST:3000"),
            ("LocalHost", None, "url: http://127.0.0.1:3000"),
            ("127.0.0.1", None, "url: http://0.0.0.0:3000"),
            ("0.0.0.0", None, "port: 3000"),
            ("0.0.0.0", None, "url: http://0.0.0.0:3000"),
            ("::", None, "port: 3000"),
            ("::", None, "url: http://[::1]:3000"),
            ("::1", None, "url: http://localhost:3000"),
            ("::1", None, "url: 'http://[0:0:0:0:0:0:0:1]:3000'"),
            ("::1", None, "url: 'http://[::]:3000'"),
            ("127.0.0.1", 443, "url: https://127.0.0.1"),
        ]
        for host, port, address in own:
            line = f"host: '{host or '127.0.0.1'}'\nport: {port or 3000}\n"
            (by_option,) = complaints(model(port=address), host=host, port=port)
            (by_file,) = complaints(model(port=address) + line)
            self.assertEqual(by_option, by_file)
            key = address.partition(":")[0]
            self.assertIn(f"c.yaml:3: models.a.{key}: this is llmux's own address (", by_file)
            self.assertIn(f"({host or '127.0.0.1'}:{port or 3000}); the model needs", by_file)

        (everywhere,) = complaints(model(port="port: 3000"), host="")
        self.assertIn("this is llmux's own address (:3000)", everywhere)

    def test_other_addresses(self) -> None:
        """A model beside llmux, or on another machine at the same port, is fine."""
        others = [
            (None, None, "port: 3001"),
            (None, 3001, "port: 3000"),
            ("10.0.0.7", None, "port: 3000"),
            ("10.0.0.7", None, "url: http://0.0.0.0:3000"),
            ("gpu.lan", None, "port: 3000"),
            (None, None, "url: http://10.0.0.7:3000"),
            ("0.0.0.0", None, "url: http://gpu.lan:3000"),
        ]
        for host, port, address in others:
            self.assertEqual(complaints(model(port=address), host=host, port=port), [], address)

    def test_aliases(self) -> None:
        """A mistake in what is merged is shown where it stands."""
        text = "x-a: &a\n  wake: ''\n  slepe: s\n" + MINIMAL.replace("wake: w", "<<: *a")
        self.assertEqual(
            [said.partition(": this")[0] for said in complaints(text)],
            [
                "c.yaml:2: models.a.wake",
                "c.yaml:3: models.a.slepe: unknown key; did you mean sleep? (it is 's')",
            ],
        )

    def test_refers_to_itself(self) -> None:
        """An anchor that holds itself is a mistake like any other, and ends nothing."""
        for text in ("models: &m\n  a: *m\n", "models: &m\n  <<: *m\n", "models: &m [*m]\n"):
            self.assertIn("this refers to itself", complaints(text)[0])

    def test_long_values(self) -> None:
        """A value of a million characters is not repeated in full."""
        (said,) = complaints(model(f"drain_before_switch: {'x' * 1_000_000}"))
        self.assertLess(len(said), 400)

    def test_home(self) -> None:
        """The home directory of somebody unknown is a mistake in the file."""
        self.assert_complaint(
            MINIMAL + "state_dir: ~no-such-user/llmux",
            "6: state_dir: nobody knows this home directory; write the whole path"
            " (it is '~no-such-user/llmux')",
        )
