"""The proxy does to a connection what it was told, and nothing once it is healed."""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos.crews import Missed
from tests.chaos.faults import bent
from tests.chaos.proxy import Proxy
from tests.running import eventually

PATIENCE_S = 5.0


class Echo(socketserver.BaseRequestHandler):
    """Gives back what it gets, and notes it."""

    seen: list[bytes]

    def handle(self) -> None:
        with suppress(ConnectionError):
            while data := self.request.recv(1 << 16):
                self.seen.append(data)
                self.request.sendall(data)


@pytest.fixture
def seen() -> list[bytes]:
    return []


@pytest.fixture
def proxy(seen: list[bytes]) -> Iterator[Proxy]:
    handler = type("Noting", (Echo,), {"seen": seen})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Proxy(("127.0.0.1", server.server_address[1])) as made:
            yield made
        server.shutdown()


def connected(proxy: Proxy) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", proxy.port), PATIENCE_S)
    try:
        assert said(connection, b"hello") == b"hello"
    except BaseException:
        connection.close()
        raise
    return connection


def said(connection: socket.socket, words: bytes) -> bytes:
    connection.sendall(words)
    return connection.recv(100)


def is_silent(connection: socket.socket, seconds: float = 0.2) -> bool:
    connection.settimeout(seconds)
    try:
        connection.recv(100)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(PATIENCE_S)
    return False


def test_an_order_under_which_nothing_comes_by_has_met_nothing(proxy: Proxy) -> None:
    for order in (proxy.reset, proxy.half_open, proxy.swallow, proxy.refuse, lambda: proxy.cut_after(1)):
        with pytest.raises(Missed):
            list(bent(proxy, order, 0))


ORDERS: dict[str, Callable[[Proxy], object]] = {
    "reset": Proxy.reset,
    "half open": Proxy.half_open,
    "refused": Proxy.refuse,
    "black hole": Proxy.swallow,
    "slow": lambda proxy: proxy.slow(0.01),
    "cut": lambda proxy: proxy.cut_after(1),
    "cut in COMMIT": lambda proxy: proxy.cut_commit("after"),
}


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_under_which_data_come_by_has_met_them(proxy: Proxy, name: str) -> None:
    with connected(proxy) as connection:
        steps = bent(proxy, lambda: ORDERS[name](proxy), 0)
        next(steps)
        with suppress(ConnectionError):
            connection.sendall(b"COMMIT")
            is_silent(connection)
        assert list(steps) == []


def test_a_reset_reaches_the_client_as_one_and_the_next_connection_works(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        assert proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    connected(proxy).close()


def test_refused_connections_come_back_when_it_is_healed(proxy: Proxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionError):
        connected(proxy)
    proxy.heal()
    connected(proxy).close()


def test_what_a_black_hole_swallowed_arrives_later(proxy: Proxy, seen: list[bytes]) -> None:
    with connected(proxy) as connection:
        proxy.swallow()
        connection.sendall(b"later")
        assert is_silent(connection)
        assert b"later" not in seen
        proxy.heal()
        assert connection.recv(100) == b"later"


def test_half_open_connections_hear_nothing_and_are_reset_in_the_end(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        assert proxy.half_open() == 1
        connection.sendall(b"is anybody there")
        assert is_silent(connection)
        connected(proxy).close()  # new ones work
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            connection.recv(100)


def test_a_connection_is_cut_after_so_many_bytes(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        proxy.cut_after(10)
        assert said(connection, b"12345") == b"12345"
        with pytest.raises(ConnectionResetError):
            said(connection, b"more")
    assert proxy.cuts == 1


def test_a_commit_is_cut_before_the_server_has_it(proxy: Proxy, seen: list[bytes]) -> None:
    with connected(proxy) as connection:
        proxy.cut_commit("before")
        with pytest.raises(ConnectionResetError):
            said(connection, b"Q\0\0\0\x0bCOMMIT\0")
    connected(proxy).close()  # once
    assert not any(b"COMMIT" in data for data in seen)


def test_a_commit_is_cut_after_the_server_has_it(proxy: Proxy, seen: list[bytes]) -> None:
    with connected(proxy) as connection:
        proxy.cut_commit("after")
        with pytest.raises(ConnectionResetError):
            said(connection, b"Q\0\0\0\x0bCOMMIT\0")
    assert any(b"COMMIT" in data for data in seen)


def test_slow_is_slow_in_both_directions(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        proxy.slow(0.2)
        connection.sendall(b"take your time")
        assert is_silent(connection, 0.3)
        assert connection.recv(100) == b"take your time"


def test_unix_sockets_are_as_good_as_ports(tmp_path: Path) -> None:
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as server, Proxy(tmp_path / "server", tmp_path / "proxy"):
        server.bind(str(tmp_path / "server"))
        server.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "proxy"))
            client.sendall(b"hello")
            connection, _ = server.accept()
            heard.append(connection.recv(100))
            connection.close()
            eventually(lambda: client.recv(100) == b"", PATIENCE_S)
    assert heard == [b"hello"]
