"""One call over real sockets: to the checked address, for the right name, within a time and a size."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpcore2
import pytest

from api.webhooks.addresses import Refused
from api.webhooks.posting import LARGEST_ANSWER, Poster, dial
from tests.api.webhooks.receiver import Receiver, certified, receiving

PUBLIC = "93.184.215.14"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


class Names:
    """A name server that gives one answer after the other."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, _: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


class Wires:
    """Notes which addresses are connected to, and connects to a receiver on this machine instead."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.dialled: list[tuple[str, int]] = []

    def __call__(self, address: str, port: int, timeout_s: float) -> httpcore2.NetworkStream:
        self.dialled.append((address, port))
        return dial("127.0.0.1", self.port, timeout_s)


def test_a_call_arrives_as_it_was_given(receiver: Receiver) -> None:
    answer = Poster(allow_private=True).post(receiver.url, {"webhook-id": "m1", "X-Odd": "ü".encode().hex()}, b"{}")
    assert answer.ok
    assert answer.status == 204
    assert receiver.calls[0].body == b"{}"
    assert receiver.calls[0].headers["host"] == f"127.0.0.1:{receiver.port}"
    assert receiver.calls[0].id == "m1"


@pytest.mark.parametrize("status", [199, 301, 302, 307, 400, 404, 410, 429, 500, 503])
def test_another_answer_than_2xx_is_no_success(receiver: Receiver, status: int) -> None:
    receiver.status = 400 if status == 199 else status
    answer = Poster(allow_private=True).post(receiver.url, {}, b"{}")
    assert not answer.ok
    assert str(receiver.status) in str(answer.error)
    assert answer.is_gone == (status == 410)


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    with receiving() as inside:
        receiver.status, receiver.headers = 307, {"Location": inside.url}
        answer = Poster(allow_private=True).post(receiver.url, {}, b"{}")
        assert answer.error is not None
        assert "redirects are not followed" in answer.error
        assert inside.calls == []


def test_retry_after_is_heard_in_seconds_and_bounded(receiver: Receiver) -> None:
    receiver.status = 503
    poster = Poster(allow_private=True)
    date = "Fri, 31 Dec 1999 23:59:59 GMT"
    for said, expected in (("120", 120.0), ("999999999", 3600.0), ("-5", None), (date, None)):
        receiver.headers = {"Retry-After": said}
        assert poster.post(receiver.url, {}, b"{}").retry_after_s == expected


def test_the_address_that_was_checked_is_the_one_connected_to_though_the_name_moves(
    receiver: Receiver, tmp_path: Path
) -> None:
    names, wires = Names([PUBLIC], ["127.0.0.1"]), Wires(0)
    server, client = certified(tmp_path, ["hooks.example"])
    with receiving(server) as secure:
        wires.port = secure.port
        answer = Poster(lookup=names, connect=wires, context=client).post("https://hooks.example/hook", {}, b"{}")
        assert answer.ok, answer.error
        assert secure.calls[0].headers["host"] == "hooks.example"
    assert names.asked == ["hooks.example"]  # once: there is no second answer to fall for
    assert wires.dialled == [(PUBLIC, 443)]


def test_a_name_that_moved_to_a_private_address_is_not_called(receiver: Receiver) -> None:
    names, wires = Names([PUBLIC], ["10.0.0.1"]), Wires(receiver.port)
    poster = Poster(lookup=names, connect=wires)
    poster.check("https://hooks.example/hook")  # as when the webhook was made
    answer = poster.post("https://hooks.example/hook", {}, b"{}")
    assert not answer.ok
    assert "public internet" in str(answer.error)
    assert wires.dialled == []
    assert receiver.calls == []


def test_tls_verifies_the_name_of_the_url_and_not_the_address(tmp_path: Path) -> None:
    for certified_for in ("other.example", PUBLIC, "127.0.0.1"):
        server, client = certified(tmp_path, [certified_for])
        with receiving(server) as secure:
            poster = Poster(lookup=Names([PUBLIC]), connect=Wires(secure.port), context=client)
            answer = poster.post("https://hooks.example/hook", {}, b"{}")
            assert not answer.ok
            assert "CERTIFICATE_VERIFY_FAILED" in str(answer.error).upper().replace(" ", "_")
            assert secure.calls == []


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    server, _ = certified(tmp_path, ["hooks.example"])
    with receiving(server) as secure:
        answer = Poster(lookup=Names([PUBLIC]), connect=Wires(secure.port)).post("https://hooks.example/", {}, b"{}")
    assert not answer.ok
    assert secure.calls == []


def test_the_next_address_is_tried_where_the_first_cannot_be_reached(receiver: Receiver) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        closed = free.getsockname()[1]

    def connect(address: str, _: int, timeout_s: float) -> httpcore2.NetworkStream:
        return dial("127.0.0.1", closed if ":" in address else receiver.port, timeout_s)

    poster = Poster(allow_private=True, lookup=Names(["2606:4700::1111", PUBLIC]), connect=connect)
    assert poster.post("http://hooks.example:9000/", {}, b"{}").ok


def test_what_is_not_there_is_an_error_in_words(receiver: Receiver) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        closed = free.getsockname()[1]
    poster = Poster(allow_private=True)
    assert "cannot be reached" in str(poster.post(f"http://127.0.0.1:{closed}/", {}, b"{}").error)
    assert "looked up" in str(Poster(lookup=_unknown).post("https://hooks.example/", {}, b"{}").error)
    with pytest.raises(Refused):
        poster.check("http://127.0.0.1:22/")
    Poster(lookup=_unknown).check("https://hooks.example/")  # not found now: it may be later


def _unknown(_: str, __: int) -> Sequence[str]:
    raise socket.gaierror(-2, "Name or service not known")


def test_a_receiver_that_drips_is_cut_off_when_the_time_is_over(receiver: Receiver) -> None:
    over = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not over.wait(0.05):
            handler.wfile.write(b"X: y\r\n")

    receiver.answer = drip
    answer = Poster(allow_private=True, timeout_s=0.5).post(receiver.url, {}, b"{}")
    over.set()
    assert not answer.ok
    assert "no answer within" in str(answer.error)


def test_a_receiver_that_never_answers_is_cut_off(receiver: Receiver) -> None:
    over = threading.Event()

    def wait(_: BaseHTTPRequestHandler) -> None:
        over.wait(60)

    receiver.answer = wait
    answer = Poster(allow_private=True, timeout_s=0.3).post(receiver.url, {}, b"{}")
    over.set()
    assert "no answer within" in str(answer.error)


def test_of_an_endless_answer_only_the_beginning_is_read(receiver: Receiver) -> None:
    sent = [0]

    def flood(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        try:
            while sent[0] < 1_000_000_000:
                handler.wfile.write(b"x" * 65536)
                sent[0] += 65536
        except OSError:
            pass

    receiver.answer = flood
    assert Poster(allow_private=True).post(receiver.url, {}, b"{}").ok
    assert LARGEST_ANSWER <= 65536
    assert sent[0] < 100_000_000  # what the sockets' buffers hold, and no more


def test_what_does_not_speak_http_is_an_error(receiver: Receiver) -> None:
    def greet(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")

    receiver.answer = greet
    answer = Poster(allow_private=True).post(receiver.url, {}, b"{}")
    assert "does not speak HTTP" in str(answer.error)


def test_the_surroundings_proxies_are_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert Poster(allow_private=True).post(receiver.url, {}, b"{}").ok
