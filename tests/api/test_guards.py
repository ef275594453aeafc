"""Attacks on what stands before the routes: each is refused with a problem, and none makes a 500."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.guards_host import EVERYWHERE, HostGuard, served_hosts
from api.problems import Problem
from tests.api.asgi import HOST, JSON, Answer, ask, raw
from tests.api.guarded import guarded
from tests.serving import Served, threaded
from worker.settings import Settings

MIB = 1 << 20


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return guarded(tmp_path_factory.mktemp("guards"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with threaded(Settings(home=tmp_path_factory.mktemp("socket")), roots=()) as found:
        yield found


def refused(answer: Answer, status: int, kind: str) -> Answer:
    assert (answer.status, answer.kind) == (status, kind), answer
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    return answer


FOREIGN = [
    b"evil.com",
    b"127.0.0.1.evil.com",
    b"localhost.evil.com",
    b"evil.com:8420",
    b"localhost.",
    b"127.0.0.2",
    b"0.0.0.0",
    b"[::2]:8420",
    b"127.1",
    b"2130706433",
    b"xn--lcalhost-54a",
]
MALFORMED = [
    b"",
    b" ",
    b"a/?x=",
    b"localhost/?x=",
    b"localhost/api/v1",
    b"localhost#",
    b"evil.com@localhost",
    b"localhost:99999",
    b"localhost:8420:8420",
    b"localhost, evil.com",
    b"[::1",
    b"lo\xffcalhost",
    b"localhost\x85",
    b"-localhost",
]


@pytest.mark.parametrize("host", FOREIGN)
def test_a_foreign_host_is_refused(app: FastAPI, host: bytes) -> None:
    refused(ask(app, "GET", "/livez", [(b"host", host)]), 421, "wrong-host")


@pytest.mark.parametrize("host", MALFORMED)
def test_a_malformed_host_is_refused(app: FastAPI, host: bytes) -> None:
    refused(ask(app, "GET", "/livez", [(b"host", host)]), 400, "bad-request")


@pytest.mark.parametrize("hosts", [[], [HOST, HOST], [HOST, (b"host", b"evil.com")], [(b"host", b"evil.com"), HOST]])
def test_no_host_and_two_hosts_are_refused(app: FastAPI, hosts: list[tuple[bytes, bytes]]) -> None:
    refused(ask(app, "GET", "/livez", hosts), 400, "bad-request")


@pytest.mark.parametrize("name", [b"x-forwarded-host", b"x-host", b"forwarded", b"x-original-host"])
def test_a_forwarded_host_decides_nothing(app: FastAPI, name: bytes) -> None:
    value = b"host=localhost" if name == b"forwarded" else b"localhost"
    refused(ask(app, "GET", "/livez", [(b"host", b"evil.com"), (name, value)]), 421, "wrong-host")
    kept = ask(app, "GET", "/", [HOST, (name, b"evil.com")])
    assert kept.status == 200
    assert b"evil.com" not in kept.body


@pytest.mark.parametrize("host", [b"localhost", b"LOCALHOST:1", b"127.0.0.1:8420", b"[::1]:8420"])
def test_this_machines_own_names_are_served(app: FastAPI, host: bytes) -> None:
    assert ask(app, "GET", "/livez", [(b"host", host)]).status == 200


def test_configured_names_are_served_and_patterns_cover_what_is_below(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, allowed_hosts=("Pix.Example.org", "*.lan"), api_host="192.0.2.7")
    guard = HostGuard(_nothing, served_hosts(settings))
    for good in ("pix.example.org:443", "box.lan", "a.b.lan", "192.0.2.7:8420", "localhost"):
        guard.check([good])
    for bad in ("lan", "evillan", "example.org", "x.pix.example.org", "box.lan.evil.com"):
        with pytest.raises(Problem, match="does not answer"):
            guard.check([bad])
    for several in ([], ["localhost", "evil.com"], ["localhost", "localhost"]):
        with pytest.raises(Problem, match="one Host"):
            guard.check(several)
    HostGuard(_nothing, ["*"]).check(["anything.at.all"])
    for everywhere in EVERYWHERE[:2]:
        assert everywhere not in served_hosts(Settings(home=tmp_path, api_host=everywhere))


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    del scope, receive, send


CROSS_SITE = [
    {b"origin": b"http://evil.com"},
    {b"origin": b"null"},
    {b"origin": b"http://localhost:3000"},
    {b"origin": b"http://localhost.evil.com"},
    {b"origin": b"https://localhost"},
    {b"origin": b"file://"},
    {b"origin": b"http://[::1"},
    {b"origin": b"http://user@localhost"},
    {b"sec-fetch-site": b"cross-site"},
    {b"sec-fetch-site": b"same-site"},
    {b"sec-fetch-site": b"nonsense"},
    {b"sec-fetch-site": b"cross-site", b"sec-fetch-mode": b"navigate", b"sec-fetch-dest": b"document"},
]


@pytest.mark.parametrize("told", CROSS_SITE)
@pytest.mark.parametrize("kind", [b"application/x-www-form-urlencoded", b"text/plain", b"application/json"])
def test_a_form_on_another_site_is_refused(app: FastAPI, told: dict[bytes, bytes], kind: bytes) -> None:
    if told.get(b"origin") == b"https://localhost":
        told = {b"origin": b"https://localhost:8420"}  # the default port of another scheme than ours
    headers = [HOST, (b"content-type", kind), *told.items()]
    refused(ask(app, "POST", "/test/json", headers, [b'{"name": "x"}']), 403, "cross-site")


def test_our_own_pages_and_followed_links_are_served(app: FastAPI) -> None:
    host = (b"host", b"localhost:8420")
    same = [host, (b"origin", b"http://localhost:8420"), (b"sec-fetch-site", b"same-origin")]
    assert ask(app, "POST", "/test/json", [*same, JSON], [b'{"name": "x"}']).status == 200
    link = [host, (b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate")]
    assert ask(app, "GET", "/errors", link).status == 200
    embedded = [host, (b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"no-cors")]
    refused(ask(app, "GET", "/metrics", embedded), 403, "cross-site")


@pytest.mark.parametrize("kind", [b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data", None])
def test_a_body_that_is_not_called_json_is_not_read_as_json(app: FastAPI, kind: bytes | None) -> None:
    headers = [HOST] if kind is None else [HOST, (b"content-type", kind)]
    refused(ask(app, "POST", "/test/json", headers, [b'{"name": "x"}']), 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "header",
    [
        (b"x-anything", b"a\r\nset-cookie: b"),
        (b"x-anything", b"a\nb"),
        (b"x-anything", b"a\0b"),
        (b"x-any thing", b"a"),
        (b"x-any\nthing", b"a"),
        (b"", b"a"),
        (b"x-request-id", b"a\r\nb"),
        (b"authorization", b"Bearer a\nb"),
        (b"idempotency-key", b"a\x7f"),
        (b"content-length", b"-1"),
        (b"content-length", b"1e9"),
        (b"content-length", b"99999999999999999999999"),
        (b"x-large", b"x" * 40_000),
    ],
)
def test_a_header_that_cannot_be_is_refused(app: FastAPI, header: tuple[bytes, bytes]) -> None:
    refused(ask(app, "GET", "/livez", [HOST, header]), 400, "bad-request")


@pytest.mark.parametrize("name", [b"authorization", b"content-length", b"origin", b"idempotency-key", b"content-type"])
def test_a_header_said_twice_is_refused(app: FastAPI, name: bytes) -> None:
    refused(ask(app, "GET", "/livez", [HOST, (name, b"1"), (name, b"1")]), 400, "bad-request")


def test_a_sane_request_id_is_kept_and_another_is_replaced(app: FastAPI) -> None:
    assert ask(app, "GET", "/livez", [HOST, (b"x-request-id", b"job-7.a")]).headers["x-request-id"] == "job-7.a"
    for odd in (b"a b", b"\xff", b"<script>", b"x" * 129, b""):
        given = ask(app, "GET", "/nowhere", [HOST, (b"x-request-id", odd)])
        assert re.fullmatch(r"[0-9a-f]{32}", given.headers["x-request-id"])
        assert given.json["request_id"] == given.headers["x-request-id"]


def test_a_body_that_is_too_large_is_refused_by_what_it_declares(app: FastAPI) -> None:
    headers = [HOST, JSON, (b"content-length", b"%d" % (MIB + 1))]
    refused(ask(app, "POST", "/test/json", headers, [b"{}"]), 413, "too-large")
    headers[-1] = (b"content-length", b"%d" % (2 * MIB + 1))
    refused(ask(app, "POST", "/test/raw", headers, [b"{}"]), 413, "too-large")


@pytest.mark.parametrize(("path", "most"), [("/test/json", MIB), ("/test/raw", 2 * MIB)])
def test_a_body_that_is_too_large_is_refused_while_it_comes(app: FastAPI, path: str, most: int) -> None:
    piece = b"x" * (64 << 10)
    count = most // len(piece) + 1
    refused(ask(app, "POST", path, [HOST, JSON], [piece] * (count + 40)), 413, "too-large")


def test_a_body_that_lies_about_its_size_is_counted(app: FastAPI) -> None:
    headers = [HOST, (b"content-length", b"10")]
    refused(ask(app, "POST", "/test/raw", headers, [b"x" * MIB, b"y" * MIB, b"z"]), 413, "too-large")


def test_an_upload_may_be_larger_than_a_json_body(app: FastAPI) -> None:
    answer = ask(app, "POST", "/test/raw", [HOST], [b"x" * MIB, b"y" * (MIB - 1), b"z"])
    assert (answer.status, answer.json) == (200, {"bytes": 2 * MIB})


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "a\\u0000b"}',
        b'{"name": "\\ud800"}',
        b'{"name": "\xed\xa0\x80"}',
        b'{"name": "x", "\\udfff": 1}',
        b'{"name": "x", "count": 9223372036854775808}',
        b'{"name": "x", "count": -1}',
        b'{"name": "x", "count": 1.5}',
        b'{"name": "x", "count": true}',
        b'{"name": "x", "count": "1"}',
        b'{"name": "x", "count": NaN}',
        b'{"name": "x", "count": ' + b"9" * 5000 + b"}",
        b'{"name": "x", "owner": "me"}',
        b'{"name": "' + b"x" * 65 + b'"}',
        b'{"name": null}',
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_body_with_a_trap_is_refused(app: FastAPI, body: bytes) -> None:
    answer = ask(app, "POST", "/test/json", [HOST, JSON], [body])
    assert answer.status in (400, 422), answer
    assert answer.kind in ("bad-request", "invalid")


@pytest.mark.parametrize(
    "job",
    ["0", "-1", "9007199254740992", "9223372036854775808", "9" * 400, "1.0", "1e3", "+1", "1_0", "٣", "x", "%31", " 1"],
)
def test_a_number_that_is_no_id_is_refused(app: FastAPI, job: str) -> None:
    refused(ask(app, "GET", f"/test/jobs/{job}"), 422, "invalid")


@pytest.mark.parametrize("query", ["text=%00", "text=" + "x" * 65, "text=a%00b"])
def test_a_query_with_a_trap_is_refused(app: FastAPI, query: str) -> None:
    refused(ask(app, "GET", f"/test/jobs/1?{query}"), 422, "invalid")


def test_surrogates_in_a_query_arrive_as_replacement_characters(app: FastAPI) -> None:
    answer = ask(app, "GET", "/test/jobs/1?text=%ED%A0%80")
    assert answer.status == 200
    assert set(answer.json["text"]) == {"�"}


def test_a_bug_becomes_an_answer_without_inner_words(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    answer = refused(ask(app, "GET", "/test/bug"), 500, "internal")
    assert b"secret" not in answer.body
    assert b"KeyError" not in answer.body
    assert "a secret of the inside" in caplog.text  # the log has it


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/test/full", 507, "disk-full"),
        ("/test/store", 503, "database-unavailable"),
        ("/test/pool", 503, "database-unavailable"),
        ("/test/move", 409, "illegal-move"),
        ("/nowhere", 404, "not-found"),
        ("/test/json", 405, "method-not-allowed"),
    ],
)
def test_errors_of_the_packages_below_become_problems(app: FastAPI, path: str, status: int, kind: str) -> None:
    answer = refused(ask(app, "GET", path), status, kind)
    assert "/a/path" not in str(answer.body)
    if status == 503:
        assert int(answer.headers["retry-after"]) == answer.json["retry_after"] > 0
    if status == 405:
        assert answer.headers["allow"] == "POST"
    if kind == "illegal-move":
        assert (answer.json["job_id"], answer.json["state"]) == (7, "done")


def test_a_refused_method_names_every_method_of_the_address(app: FastAPI) -> None:
    for method in ("PATCH", "OPTIONS", "TRACE", "NONSENSE"):
        answer = refused(ask(app, method, "/api/v1/tokens"), 405, "method-not-allowed")
        assert answer.headers["allow"] == "GET, POST"


def test_half_an_answer_breaks_off_instead_of_ending_politely(app: FastAPI) -> None:
    with pytest.raises(Exception, match="gone") as caught:
        ask(app, "GET", "/test/half")
    assert caught.type.__name__ == "DatabaseUnavailable"


def test_every_exchange_is_one_line_of_the_log_without_secrets(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="pixmill.access")
    ask(app, "GET", "/test/jobs/7?text=hidden", [HOST, (b"x-request-id", b"r1"), (b"authorization", b"Bearer hidden")])
    (line,) = (record.__dict__ for record in caplog.records if record.name == "pixmill.access")
    assert {name: line[name] for name in ("request_id", "method", "path", "status", "job")} == {
        "request_id": "r1",
        "method": "GET",
        "path": "/test/jobs/7",
        "status": 200,
        "job": "7",
    }
    assert line["ms"] >= 0
    assert "hidden" not in str(line)


def test_a_client_that_goes_away_is_no_error(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    class Gone:
        """A client that closes while it sends."""

        def __init__(self, inner: ASGIApp) -> None:
            self.inner = inner

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            del receive

            async def gone() -> Message:
                return {"type": "http.disconnect"}

            await self.inner(scope, gone, send)

    with pytest.raises(IndexError):  # nothing was sent: there is no first message
        ask(Gone(app), "POST", "/test/raw")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


SMUGGLED = [
    b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.com\r\nConnection: close\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n",
    b"GET /livez HTTP/1.0\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: b\n Set-Cookie: c\0\r\nConnection: close\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: b\rc\r\nConnection: close\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: b\0c\r\nConnection: close\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: evil.com\r\nConnection: close\r\n\r\n",
    b"GET http://evil.com/livez HTTP/1.1\r\nHost: evil.com\r\nConnection: close\r\n\r\n",
    b"POST /test HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"x" * 100_000 + b"\r\nConnection: close\r\n\r\n",
]


@pytest.mark.parametrize("request_bytes", SMUGGLED)
def test_bytes_that_no_client_should_send_are_refused_by_the_server(served: Served, request_bytes: bytes) -> None:
    answer = raw(int(served.url.rpartition(":")[2]), request_bytes)
    assert re.match(rb"HTTP/1\.1 4\d\d ", answer), answer[:200]
    assert b"Set-Cookie" not in answer.partition(b"\r\n\r\n")[0]


def test_a_client_that_sends_too_much_over_a_socket_gets_its_413(served: Served) -> None:
    port = int(served.url.rpartition(":")[2])
    head = b"POST /api/v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    declared = raw(port, head + b"Content-Length: 999999999\r\n\r\n")
    body = b"%x\r\n" % MIB + b"x" * MIB + b"\r\n"
    counted = raw(port, head + b"Transfer-Encoding: chunked\r\n\r\n" + body * 17 + b"0\r\n\r\n")
    for answer in (declared, counted):
        assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "/errors#too-large"


def test_a_form_where_a_file_is_expected_is_refused_with_what_to_send(app: FastAPI) -> None:
    """What `curl -F file=@x.jpg` sends; `--data-binary` says that it is a form too, but is none."""
    form = (b"content-type", b"multipart/form-data; boundary=x")
    answer = ask(app, "POST", "/test/raw", [HOST, form], [b"--x\r\n", b"\r\n--x--"])
    assert "--data-binary @FILE" in refused(answer, 415, "unsupported-media-type").json["detail"]
    binary = (b"content-type", b"application/x-www-form-urlencoded")
    assert ask(app, "POST", "/test/raw", [HOST, binary], [b"abc"]).json == {"bytes": 3}
