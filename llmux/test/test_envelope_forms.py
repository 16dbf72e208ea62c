"""Tests of :mod:`llmux.envelope.forms` and :mod:`llmux.envelope.parts`: the model in a form."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.envelope import Envelope
from llmux.envelope.parts import LONGEST_BOUNDARY, LONGEST_HEADERS
from llmux.envelope.scanner import LONGEST_NAME
from llmux.test.envelopes import MULTIPART, URLENCODED, cuts, make_reader, outcome, read

NO_MODEL = (404, "No model specified in request")


def part(disposition: str, content: bytes, more: str = "") -> bytes:
    """Write a part, with the boundary ``b`` before it."""
    head = f"--b\r\nContent-Disposition: form-data; {disposition}\r\n{more}\r\n"
    return head.encode() + content + b"\r\n"


FILE = part(
    'name="file"; filename="a.mp3"', b"\x00\r\n--\r\n--c\xff\r\n", "Content-Type: audio/mpeg\r\n"
)
MODEL = part('name="model"', b"a")
END = b"--b--\r\n"


class FormCase(SynchronousTestCase):
    """What both kinds of forms are checked with."""

    content_type = b""

    def assert_read(self, body: bytes, expected: tuple[object, object]) -> None:
        """Check what is made of a body, whole, cut anywhere, and byte by byte."""
        for at in ([], range(len(body)), *([cut] for cut in range(min(len(body), 200)))):
            self.assertEqual(outcome(body, self.content_type, at=at), expected, (body, at))

    def assert_model(self, body: bytes, model: str) -> None:
        """Check that a body names a model, wherever it is cut."""
        self.assert_read(body, (Envelope(model, stream=False), None))

    def assert_refused(self, body: bytes, message: str) -> None:
        """Check that a body is refused, wherever it is cut."""
        self.assert_read(body, (400, message))


class PartsTests(FormCase):
    content_type = MULTIPART

    def test_model(self) -> None:
        """The field may stand before the file, or behind it."""
        self.assert_model(MODEL + FILE + END, "a")
        self.assert_model(FILE + MODEL + END, "a")
        self.assert_model(b"\r\n" + FILE + part('name="x"', b"") + MODEL + END, "a")

    def test_spellings(self) -> None:
        """Headers are read as mail's headers are."""
        for disposition in (
            "name=model",
            'x=" ;name=b\\""; NAME = "model" ;',
            'a="b";name="model"',
        ):
            self.assert_model(part(disposition, "größe\r\n".encode()) + END, "größe\r\n")
        folded = (
            b"--b  \t\r\ncontent-type: text/plain\r\n"
            b"CONTENT-DISPOSITION:\r\n form-data;\r\n\tname=model\r\n\r\na\r\n"
        )
        self.assert_model(folded + END, "a")

    def test_files_are_no_fields(self) -> None:
        """A file is not the field, whatever it is called."""
        for name in ('filename="x"', "filename=x", "filename*=UTF-8''x", 'filename=""'):
            self.assert_read(part(f'name="model"; {name}', b"b") + END, NO_MODEL)
            self.assert_model(part(f'name="model"; {name}', b"b") + MODEL + END, "a")

    def test_other_names(self) -> None:
        """Only the field of this name counts."""
        for disposition in (
            'name="Model"',
            'name="models"',
            'name=" model"',
            'x="; name=model"',
            "x",
        ):
            body = part(disposition, b"b") if disposition != "x" else part("", b"b")
            self.assert_read(body + END, NO_MODEL)
        self.assert_read(part('name="model"', b"") + END, NO_MODEL)
        self.assert_read(END, NO_MODEL)

    def test_two_models(self) -> None:
        """Two fields of this name are refused with where they stand."""
        second = len(MODEL + FILE) + 5
        self.assert_refused(
            MODEL + FILE + MODEL + END,
            f"The multipart body names two models, at byte 5 and at byte {second}",
        )

    def test_content_that_looks_like_a_boundary(self) -> None:
        """A boundary is one if it stands on a line of its own."""
        for content in (
            b"--b",
            b"\r\n--",
            b"\r\n--bb",
            b"\r\n--b-",
            b"\r--b\r\n",
            b"\r\n--b \r",
            b"x\r\n--bx\r\n",
        ):
            self.assert_model(part('name="x"', content) + MODEL + END, "a")
            name = "y" + content.decode() + "z"
            self.assert_model(part('name="model"', name.encode()) + END, name)

    def test_malformed_before_the_model(self) -> None:
        """What is wrong before the model is said, and where."""
        what = "The multipart body is malformed at byte"
        nothing = "no Content-Disposition of the kind form-data"
        twice = "a parameter that is there twice"
        good = len(FILE) + 5
        for headers, where in (
            (b"", nothing),
            (b"Content-Type: text/plain\r\n", nothing),
            (b"Content-Disposition: attachment; name=model\r\n", nothing),
            (b"nonsense\r\n", "a line that is no header"),
            (b"A: b\nC: d\r\n", "a line that is no header"),
            (b"A: b\r\na: b\r\n", "a header that is there twice"),
            (b"Content-Disposition: form-data; name=model; name=x\r\n", twice),
            (b'Content-Disposition: form-data; name="model\r\n', "something that is no parameter"),
        ):  # fmt: skip
            body = FILE + b"--b\r\n" + headers + b"\r\na\r\n" + MODEL + END
            self.assert_refused(body, f"{what} {good}: a part's headers hold {where}")
        body = FILE + b"--b\r\n" + b"A: %s" % (b"x" * LONGEST_HEADERS)
        for rest in (b"", b"\r\n\r\n" + MODEL):
            self.assert_refused(
                body + rest,
                f"{what} {good}: a part has more than {LONGEST_HEADERS} bytes of headers",
            )

    def test_ends_before_the_model(self) -> None:
        """A body that ends too early is refused with what it ends in."""
        for body, where in (
            (b"x", "before its first boundary"),
            (b"--b", "before its first boundary"),
            (b"--b\n" + MODEL[5:], "before its first boundary"),
            (FILE, "in the middle of a part"),
            (MODEL[:-2], "in the middle of a part"),
            (MODEL + END[:4], "in the middle of a part"),
            (FILE + MODEL[:20], "in the middle of a part's headers"),
        ):
            self.assert_refused(body, f"The multipart body ends at byte {len(body)} {where}")

    def test_what_follows_the_model(self) -> None:
        """What follows the model is the backend's business."""
        for rest in (
            b"--b\r\n",
            b"--b\r\nnonsense\r\n\r\n",
            FILE,
            FILE[:30],
            END + MODEL,
            b"--b--" + b"x",
        ):
            self.assert_model(MODEL + rest, "a")

    def test_headers_of_the_longest_size(self) -> None:
        """Headers may be so long, and no longer."""
        field = b"Content-Disposition: form-data; name=model\r\nX: "
        for more, status in ((0, None), (1, 400)):
            headers = field + b"x" * (LONGEST_HEADERS - 2 - len(field) + more)
            body = b"--b\r\n" + headers + b"\r\n\r\na\r\n" + END
            ways: tuple[Iterable[int], ...] = ((), range(len(body)))
            for at in ways:
                result = outcome(body, self.content_type, at=at)
                self.assertEqual(result[0], status or Envelope("a", stream=False))

    def test_long_names(self) -> None:
        """A name may be so long; a longer one is refused."""
        name = b"x" * LONGEST_NAME
        self.assertEqual(read(part("name=model", name) + END, MULTIPART).model, name.decode())
        message = (
            f"The model that the multipart body names at byte 5 is longer than {LONGEST_NAME} bytes"
        )
        self.assert_refused(part("name=model", name + b"x") + END, message)

    def test_name_that_is_no_text(self) -> None:
        """A name is UTF-8."""
        message = "The model that the multipart body names at byte 5 is not UTF-8"
        self.assert_refused(part("name=model", b"\xff") + END, message)

    def test_boundary(self) -> None:
        """Without a boundary in the Content-Type nothing can be found."""
        message = (
            "The Content-Type multipart/form-data must name a boundary of at most"
            f" {LONGEST_BOUNDARY} bytes"
        )
        for parameters in (
            b"",
            b";",
            b"; boundary=",
            b'; boundary=""',
            b"; boundary=b; boundary=c",
            b"; boundary=%s" % (b"b" * 257),
        ):
            self.assertEqual(
                outcome(MODEL + END, b"multipart/form-data" + parameters), (400, message)
            )
        boundary = b"b" * LONGEST_BOUNDARY
        body = (MODEL + END).replace(b"--b", b"--" + boundary)
        for parameters in (b';boundary="%s"', b"; charset=utf-8 ; Boundary=%s ;"):
            self.assertEqual(read(body, b" Multipart/Form-Data" + parameters % boundary).model, "a")

    def test_nothing_is_kept(self) -> None:
        """However long a file is, a few bytes of it are kept at any time."""
        reader = make_reader(content_type=MULTIPART)
        body = part('name="file"; filename="x"', b"\r\n--\r\n--" * 2000) + MODEL + END
        for offset in range(len(body)):
            reader.feed(body[offset : offset + 1])
            assert reader._scanner is not None
            self.assertLess(len(reader._scanner._held), 100)
        self.assertEqual(reader.finish().model, "a")

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(
                    ['"model"', '"file"', '"file"; filename="m"', '"model"; filename=x', '""']
                ),
                st.binary(max_size=20) | st.text("\r\n-b ", max_size=12).map(str.encode),
            ),
            max_size=5,
        ),
        cuts,
    )
    def test_any_parts(self, parts: list[tuple[str, bytes]], at: list[int]) -> None:
        """Of any form, however it is cut, the field is found."""
        boundary = b"=b=o=u=n=d="
        body = b"".join(part(f"name={name}", content) for name, content in parts) + END
        body = body.replace(b"--b\r\nContent", b"--" + boundary + b"\r\nContent")
        body = body.removesuffix(END) + b"--" + boundary + b"--\r\n"
        models = [content for name, content in parts if name == '"model"']
        result = outcome(body, b"multipart/form-data; boundary=" + boundary, at=at)
        if len(models) > 1:
            self.assertEqual(result[0], 400)
        elif not models or not models[0]:
            self.assertEqual(result, NO_MODEL)
        else:
            try:
                expected = Envelope(models[0].decode(), stream=False), None
            except UnicodeDecodeError:
                self.assertEqual(result[0], 400)
            else:
                self.assertEqual(result, expected)

    @given(
        st.integers(0, 300),
        st.integers(0, 4),
        st.binary(max_size=3) | st.sampled_from([b"\r\n", b"--b", b'"']),
        cuts,
    )
    def test_mutations(self, offset: int, removed: int, added: bytes, at: list[int]) -> None:
        """Whatever a form is, it makes no difference how it is cut."""
        body = FILE + MODEL + END
        body = body[:offset] + added + body[offset + removed :]
        result = outcome(body, MULTIPART)
        self.assertEqual(outcome(body, MULTIPART, at=at), result)
        self.assertEqual(outcome(body, MULTIPART, at=range(len(body))), result)


class UrlencodedTests(FormCase):
    content_type = URLENCODED

    def test_model(self) -> None:
        """The field may stand anywhere, and be encoded in any way."""
        self.assert_model(b"model=a", "a")
        self.assert_model(b"prompt=x&model=a%2Fb%2fc&n=1", "a/b/c")
        self.assert_model(b"x&&&m%6f%64%65%6C=with+space%20&", "with space ")
        self.assert_model(b"%6D%6F%64%65%6C=gro%c3%9fe&x=&=y", "große")
        self.assert_model(b"model=%zz=%4&x", "%zz=%4")

    def test_other_names(self) -> None:
        """Only the field of this name counts."""
        for body in (
            b"Model=b", b"models=b", b"mode=b", b"x=model=b", b"xmodel=b", b"+model=b",
            b"model%3Db", b"xxxxxxxxxxxxxxxxxxxx" + b"model=b", b"%256dodel=b",
            b"model=", b"model", b"model&x", b"x;model=b", b"modelmodelmodelmodel",
        ):  # fmt: skip
            self.assert_read(body, NO_MODEL)

    def test_two_models(self) -> None:
        """Two fields of this name are refused with where they stand."""
        for body in (b"x=1&model=a&model=a", b"x=1&model=a&m%6fdel", b"x=1&model=b&model&x"):
            self.assert_refused(body, "The form names two models, at byte 4 and at byte 12")

    def test_long_names(self) -> None:
        """A name may be so long; a longer one is refused."""
        name = b"x" * LONGEST_NAME
        self.assertEqual(read(b"model=" + name, URLENCODED).model, name.decode())
        message = f"The model that the form names at byte 2 is longer than {LONGEST_NAME} bytes"
        self.assert_refused(b"x&model=x" + name, message)

    def test_name_that_is_no_text(self) -> None:
        """A name is UTF-8."""
        self.assert_refused(b"model=%ff", "The model that the form names at byte 0 is not UTF-8")

    def test_nothing_is_kept(self) -> None:
        """However long a field is, a few bytes of it are kept at any time."""
        reader = make_reader(content_type=URLENCODED)
        for byte in b"x" * 9999 + b"&mode=" + b"y" * 9999 + b"&model=a":
            reader.feed(bytes([byte]))
            assert reader._scanner is not None
            self.assertLess(len(reader._scanner._held), 20)
        self.assertEqual(reader.finish().model, "a")

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["model", "m", "", "modell", "mödel"]) | st.text(max_size=4),
                st.text(max_size=6),
            ),
            max_size=6,
        ),
        st.sampled_from(["", "&", "&&"]),
        st.lists(st.integers(0, 100), max_size=4),
        cuts,
    )
    def test_any_fields(
        self, fields: list[tuple[str, str]], behind: str, encoded: list[int], at: list[int]
    ) -> None:
        """Of any form, however it is written and cut, what another parser finds is found."""
        letters = [chr(byte) for byte in (urlencode(fields) + behind).encode()]
        for index in encoded:
            if (
                index < len(letters)
                and letters[index].isalpha()
                and "%" not in letters[max(0, index - 2) : index]
            ):
                letters[index] = f"%{ord(letters[index]):02{'xX'[index % 2]}}"
        body = "".join(letters).encode()
        models = [
            value
            for key, value in parse_qsl(body.decode(), keep_blank_values=True)
            if key == "model"
        ]
        result = outcome(body, URLENCODED, at=at)
        if len(models) > 1:
            self.assertEqual(result[0], 400)
        elif not models or not models[0]:
            self.assertEqual(result, NO_MODEL)
        else:
            self.assertEqual(result, (Envelope(models[0], stream=False), None))
