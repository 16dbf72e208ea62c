"""Which model a request is for: bodies of each kind, queries, paths."""

from __future__ import annotations

import pytest

from e2e.wire.case import Case, Own, Told, check
from e2e.wire.conftest import House
from e2e.wire.requests import BODY, get, post, sent_on

FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
PARTS = b"Content-Type: multipart/form-data; boundary=b\r\n"
JSON = b"Content-Type: application/json\r\n"
NAMED = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%s\r\n'
FILE = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\n" + bytes(range(256)) * 40 + b"\r\n"
)


def named(name: str, body: bytes, head: bytes = b"") -> Case:
    """Make a case of a body that is sent on."""
    return Case(name=name, sends=post(body, head), arrives=(sent_on(body, head),))


def misnamed(name: str, body: bytes, status: int, says: str, head: bytes = b"") -> Case:
    """Make a case of a body that is refused; the connection goes on."""
    return Case(name=name, sends=post(body, head), gets=(Told(status, says),))


def upstream(target: bytes, rest: bytes, method: bytes = b"GET") -> Case:
    """Make a case of the path form."""
    return Case(
        name=f"{method.decode()} {target.decode()}",
        sends=get(target, method=method),
        arrives=(b"%s %s HTTP/1.1\r\n\r\n" % (method, rest),),
    )


JSON_BODIES = [
    named("JSON", BODY, JSON),
    named("JSON without a type", BODY),
    named("JSON as a form, as curl -d sends it", BODY, FORM),
    named("JSON as multipart", BODY, PARTS),
    named("JSON as plain text", BODY, b"Content-Type: text/plain\r\n"),
    named("blanks first", b" \t\r\n" + BODY),
    named("the model last", b'{"x": [1, {"model": "no"}], "y": {"model": 2}, "model": "llama"}'),
    named("an escaped key", b'{"m\\u006fdel": "llama"}'),
    named("an escaped name", b'{"model": "\\u006clam\\u0061"}'),
    named("odd white space", b'{\t"model"\r\n:\n"llama" ,"x":1}\r\n'),
    named("a long list first", b'{"x": [%s1], "model": "llama"}' % (b'"data", ' * 50_000)),
    named("what is no JSON behind the model", BODY[:-1] + b", oops"),
    named("two equal keys that are not model", b'{"x": 1, "x": 2, "model": "llama"}'),
    named("numbers and escapes as they are", b'{"a":1.0e+05,"b":"\\/\\u00e9","model":"llama"}'),
    misnamed("the model is a number", b'{"model": 1}', 400, "model", JSON),
    misnamed("the model is null", b'{"model": null}', 400, "model"),
    misnamed("the model is a list", b'{"model": ["llama"]}', 400, "model"),
    misnamed("two models", b'{"model": "llama", "model": "llama"}', 400, "model"),
    misnamed("two models, one escaped", b'{"model":"llama","\\u006dodel":"x"}', 400, "model"),
    misnamed("malformed before the model", b'{"x": oops, "model": "llama"}', 400, "6"),
    misnamed("a comma too many", b'{, "model": "llama"}', 400, "JSON"),
    misnamed("cut before the model", b'{"mod', 400, "JSON"),
    misnamed("no model in it", b'{"x": 1}', 404, "No model specified"),
    misnamed("an empty model", b'{"model": ""}', 404, "No model specified"),
    misnamed("a model that there is not", b'{"model": "nope"}', 404, "Model not found: nope"),
    misnamed("no JSON object", b'["model", "llama"]', 404, "No model specified", JSON),
    misnamed("plain text", b"model=llama", 404, "No model specified"),
    misnamed("no body", b"", 404, "No model specified"),
]

FORMS = [
    named("a form", b"model=llama&x=1", FORM),
    named("a form, the model last", b"x=%zz&&y&model=llama", FORM),
    named("an encoded name in a form", b"model=ll%61ma", FORM),
    named("an encoded key in a form", b"mod%65l=llama", FORM),
    misnamed("two models in a form", b"model=llama&model=other", 400, "model", FORM),
    misnamed("a form without a model", b"x=1", 404, "No model specified", FORM),
    named("parts, the model first", NAMED % b"llama" + FILE + b"--b--\r\n", PARTS),
    named("parts, the model behind the file", FILE + NAMED % b"llama" + b"--b--\r\n", PARTS),
    named(
        "a quoted boundary",
        FILE + NAMED % b"llama" + b"--b--",
        b'Content-Type: Multipart/Form-Data; x=y; boundary="b"\r\n',
    ),
    named("a preamble", b"hello\r\n" + NAMED % b"llama" + b"--b--\r\n", PARTS),
    misnamed("parts without a model", FILE + b"--b--\r\n", 404, "No model specified", PARTS),
    misnamed("two parts that are models", NAMED % b"llama" * 2 + b"--b--", 400, "model", PARTS),
    misnamed(
        "parts without a boundary", NAMED % b"llama", 400, "bound", PARTS.replace(b"boundary", b"b")
    ),
]

TARGETS = [
    Case(
        name="GET with ?model=",
        sends=get(b"/v1/x?a&model=llama&b=%zz"),
        arrives=(b"GET /v1/x?a&model=llama&b=%zz HTTP/1.1\r\n\r\n",),
    ),
    Case(
        name="DELETE with ?model=",
        sends=get(b"/v1/x?model=ll%61ma", method=b"DELETE"),
        arrives=(b"DELETE /v1/x?model=ll%61ma HTTP/1.1\r\n\r\n",),
    ),
    Case(
        name="POST with ?model= and no body",
        sends=get(b"/v1/x?model=llama", method=b"POST"),
        arrives=(b"POST /v1/x?model=llama HTTP/1.1\r\nContent-Length: 0\r\n\r\n",),
    ),
    Case(
        name="the body wins over the query",
        sends=post(target=b"/v1/x?model=nope"),
        arrives=(sent_on(target=b"/v1/x?model=nope"),),
    ),
    Case(name="two ?model=", sends=get(b"/v1/x?model=llama&model=x"), gets=(Told(400, "model"),)),
    Case(name="GET without a model", sends=get(b"/v1/x"), gets=(Told(404, "No model specified"),)),
    Case(name="GET /", sends=get(b"/"), gets=(Told(404, "No model specified"),)),
    Case(
        name="OPTIONS *",
        sends=get(b"*", method=b"OPTIONS"),
        gets=(Told(404, "No model specified"),),
    ),
    *(upstream(b"/upstream/llama/props", b"/props", method) for method in (b"GET", b"DELETE")),
    upstream(b"/upstream/llama/props", b"/props", b"OPTIONS"),
    upstream(b"/upstream/llama", b"/"),
    upstream(b"/upstream/llama/", b"/"),
    upstream(b"/upstream/llama?a=b", b"/?a=b"),
    upstream(b"/upstream/ll%61ma/x", b"/x"),
    upstream(b"/upstream/llama//a/../%2e%2E/%2f?x=%&model=no", b"//a/../%2e%2E/%2f?x=%&model=no"),
    upstream(b"/upstream/llama/upstream/llama/x", b"/upstream/llama/x"),
    upstream(b"http://elsewhere.example/upstream/llama/x?y", b"/x?y"),
    Case(
        name="POST /upstream/ with a body that names another model",
        sends=post(b'{"model": "nope"}', target=b"/upstream/llama/v1/x"),
        arrives=(sent_on(b'{"model": "nope"}', target=b"/v1/x"),),
    ),
    Case(
        name="POST /upstream/ with a body of any kind",
        sends=post(b"\x00\xff{", target=b"/upstream/llama/v1/x"),
        arrives=(sent_on(b"\x00\xff{", target=b"/v1/x"),),
    ),
    Case(
        name="/upstream/ with a model that there is not",
        sends=get(b"/upstream/nope/x"),
        gets=(Told(404, "Model not found: nope"),),
    ),
    Case(name="/upstream/ alone", sends=get(b"/upstream/"), gets=(Told(404),)),
]

SLASHED = [
    named("a name with a slash in JSON", b'{"model": "org/other"}'),
    named("a name with an escaped slash in JSON", b'{"model": "org\\/other"}'),
    named("a name with a slash in a form", b"model=org/other", FORM),
    named("a name with an encoded slash in a form", b"model=org%2Fother", FORM),
    named("a name with a slash in parts", FILE + NAMED % b"org/other" + b"--b--\r\n", PARTS),
    upstream(b"/upstream/org/other/x", b"/x"),
    upstream(b"/upstream/org%2Fother/x", b"/x"),
    upstream(b"/upstream/org%2fother", b"/"),
    upstream(b"/v1/x?model=org/other", b"/v1/x?model=org/other"),
    upstream(b"/v1/x?model=org%2Fother", b"/v1/x?model=org%2Fother"),
]


@pytest.mark.parametrize("case", [*JSON_BODIES, *FORMS, *TARGETS], ids=str)
def test_which_model(case: Case, plain: House) -> None:
    """The request goes to the model that it names, unchanged, or is told what is wrong."""
    check(case, plain.port, plain.backend)


@pytest.mark.parametrize("case", SLASHED, ids=str)
def test_names_with_slashes(case: Case, plain: House) -> None:
    """Names may hold slashes, wherever they stand."""
    check(case, plain.port, plain.other)


@pytest.mark.parametrize(
    ("target", "status", "says"),
    [
        ("/v1/models", 200, '"id": "org/other"'),
        ("/v1/models/llama", 200, '"id": "llama"'),
        ("/v1/models/org/other", 200, '"id": "org/other"'),
        ("/v1/models/org%2Fother", 200, '"id": "org/other"'),
        ("/v1/models/nope", 404, "Model not found: nope"),
    ],
)
def test_models(target: str, status: int, says: str, plain: House) -> None:
    """The list of models, and one of them, are answered by llmux itself."""
    answered, body = plain.program.get(target)
    assert answered == status
    assert says in body


def test_head_of_the_models(plain: House) -> None:
    """HEAD tells how long the list is, and sends none of it."""
    length = len(plain.program.get("/v1/models")[1])
    case = Case(
        name="HEAD /v1/models",
        sends=get(b"/v1/models", method=b"HEAD"),
        gets=(
            Own(
                b"HTTP/1.1 200 OK\r\nDate: *\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % length
            ),
        ),
        head=True,
    )
    check(case, plain.port, plain.backend)
