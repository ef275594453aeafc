"""Where a webhook may call: the table of everything that must be refused, and what may pass."""

import ipaddress
import socket
import threading
from collections.abc import Sequence

import pytest

from api.webhooks.addresses import Refused, is_public, parse, resolve

INSIDE = [
    "0.0.0.0",  # noqa: S104  to be refused, not listened on
    "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.9", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1",
    "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "233.252.0.1", "240.0.0.1",
    "255.255.255.255", "168.63.129.16",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::1", "2002:808:808::1", "2620:4f:8000::1",
    "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "ff0e::1",
]  # fmt: skip
OUTSIDE = [
    "1.1.1.1", "8.8.8.8", "93.184.215.14", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001::1", "64:ff9b::808:808",
]  # fmt: skip


def found(*addresses: str) -> Sequence[str]:
    return list(addresses)


@pytest.mark.parametrize("text", INSIDE)
def test_an_address_that_is_not_on_the_public_internet_is_refused_as_a_host_and_as_an_answer(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert not is_public(address)
    with pytest.raises(Refused):
        parse(f"https://[{text}]/" if ":" in text else f"https://{text}/")
    with pytest.raises(Refused):
        resolve(parse("https://hooks.example/"), lookup=lambda _, __: found(text))


@pytest.mark.parametrize("text", OUTSIDE)
def test_a_public_address_may_be_called(text: str) -> None:
    host = f"[{text}]" if ":" in text else text
    assert resolve(parse(f"https://{host}/hook?a=b")) == [text]
    assert resolve(parse("https://hooks.example/"), lookup=lambda _, __: found(text)) == [text]


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1", "127.0.0.1.", "0",
        "0x7f.0x0.0x0.0x1", "127.0.0.0x1", "1.1.1.1.1", "0300.0250.1.1", "127。0。0。1", "①②⑦.⓪.⓪.①",
        "127.0.0.1%00.example",
        "[::1%25lo]", "[fe80::1%eth0]", "[2606:4700::1111%25eth0]", "[::127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]",
        "%31%32%37.0.0.1", "local%68ost", "a..b", ".a", "-a.example", "xn--", "a_-.example", "[v1.x]", "[1.1.1.1]",
        "ab" * 130 + ".example", "x" * 64 + ".example",
    ],
)  # fmt: skip
def test_no_other_spelling_of_a_host_gets_through(host: str) -> None:
    with pytest.raises(Refused):
        parse(f"https://{host}/")


@pytest.mark.parametrize(
    "url",
    [
        "", "https", "https:", "https:x", "https://", "https:///x", "//hooks.example/", "hooks.example",
        "http://hooks.example/", "ftp://hooks.example/", "file:///etc/passwd", "gopher://hooks.example/", "unix:///run/x.sock",
        "javascript:alert(1)",
        "https://user@hooks.example/", "https://user:pass@hooks.example/", "https://@hooks.example/",
        "https://:@hooks.example/",
        "https://hooks.example@127.0.0.1/", "https://127.0.0.1#@hooks.example/", "https://hooks.example/#x",
        "https://hooks.example\\@127.0.0.1/", "https://hooks.example/a b", "https://hooks.example/\r\nX: y",
        "https://hooks.example\t/", "https://hooks.example/\0", " https://hooks.example/", "https://hooks.example/\x85",
        "https://hooks.example:22/", "https://hooks.example:25/", "https://hooks.example:80/", "https://hooks.example:0/",
        "https://hooks.example:65536/", "https://hooks.example:-1/", "https://hooks.example:443x/",
        "https://hooks.example:1023/",
        "https://[::1/", "https://::1]/", "https://" + "a" * 2048 + ".example/",
    ],
)  # fmt: skip
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(Refused):
        parse(url)


def test_a_url_is_taken_apart_once() -> None:
    endpoint = parse("https://Hooks.Example:8443/a/../b%20c?x=1&y=%2e")
    assert (endpoint.scheme, endpoint.host, endpoint.port) == ("https", "hooks.example", 8443)
    assert endpoint.authority == "hooks.example:8443"
    assert parse("https://hooks.example").target == "/"
    assert parse("https://[2606:4700::1111]/").authority == "[2606:4700::1111]"


def test_an_international_name_is_asked_for_in_ascii() -> None:
    endpoint = parse("https://bücher.example/ä?q=ü")
    assert endpoint.host == "xn--bcher-kva.example"
    assert endpoint.target.isascii()


def test_a_name_with_a_public_and_a_private_address_is_refused_altogether() -> None:
    endpoint = parse("https://hooks.example/")
    for answers in (("1.1.1.1", "10.0.0.1"), ("10.0.0.1", "1.1.1.1"), ("2606:4700::1111", "::1")):
        given = found(*answers)
        with pytest.raises(Refused):
            resolve(endpoint, lookup=lambda _, __: given)  # noqa: B023  called before the next turn


def test_localhost_is_refused_by_the_real_resolver() -> None:
    with pytest.raises(Refused):
        resolve(parse("https://localhost/"))


def test_private_addresses_and_http_pass_where_they_are_allowed_but_no_odd_spelling() -> None:
    assert resolve(parse("http://127.0.0.1:9000/", allow_private=True), allow_private=True) == ["127.0.0.1"]
    assert "127.0.0.1" in resolve(parse("http://localhost/", allow_private=True), allow_private=True)
    for url in (
        "http://2130706433/",
        "http://u@127.0.0.1/",
        "http://127.0.0.1:22/",
        "http://224.0.0.1/",
        "http://0.0.0.0/",
    ):
        with pytest.raises(Refused):
            parse(url, allow_private=True)


def test_a_name_server_that_does_not_answer_is_not_waited_for() -> None:
    never = threading.Event()

    def hang(_: str, __: int) -> Sequence[str]:
        never.wait(30)
        return []

    try:
        with pytest.raises(OSError, match="did not answer"):
            resolve(parse("https://hooks.example/"), lookup=hang, timeout_s=0.05)
    finally:
        never.set()


def test_a_name_that_is_not_found_is_an_error_of_the_network() -> None:
    def unknown(_: str, __: int) -> Sequence[str]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(OSError, match="not known"):
        resolve(parse("https://hooks.example/"), lookup=unknown)
    with pytest.raises(OSError, match="no address"):
        resolve(parse("https://hooks.example/"), lookup=lambda _, __: found())
