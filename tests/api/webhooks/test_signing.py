"""Signatures: against vectors computed by hand, and everything that must not pass."""

import base64
import hashlib
import hmac

import pytest

from api.webhooks import signing

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
BODY = '{"type":"job.done","data":{"name":"Möwe"}}'.encode()
NOW = 1_790_000_000


def by_hand(key: bytes, content: bytes) -> str:
    """HMAC as RFC 2104 writes it, from the hash alone."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + content).digest()
    return base64.b64encode(hashlib.sha256(bytes(byte ^ 0x5C for byte in block) + inner).digest()).decode()


def test_a_signature_covers_the_id_the_time_and_the_body_with_the_decoded_key() -> None:
    content = b"msg_1." + str(NOW).encode() + b"." + BODY
    assert signing.signature(SECRET, "msg_1", NOW, BODY) == "v1," + by_hand(KEY, content)
    assert by_hand(KEY, content) == base64.b64encode(hmac.digest(KEY, content, "sha256")).decode()


def test_a_new_secret_is_another_each_time_and_long_enough() -> None:
    first, second = signing.new_secret(), signing.new_secret()
    assert first != second
    assert len(signing.key_of(first)) == 32


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "whsec_AAAA", "whsec_!!!!", base64.b64encode(KEY).decode(), "whsec_" + "A" * 400, "whsec_ä"],
)
def test_what_is_no_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        signing.key_of(secret)


def test_a_call_is_verified_by_its_headers() -> None:
    signing.verify(SECRET, signing.headers(SECRET, "msg_1", NOW, BODY), BODY, NOW + 100)


def test_one_good_signature_among_others_is_enough_while_a_key_is_changed() -> None:
    headers = signing.headers(SECRET, "msg_1", NOW, BODY)
    headers["webhook-signature"] = f"v1,AAAA v2,x {headers['webhook-signature']}"
    signing.verify(SECRET, headers, BODY, NOW)


@pytest.mark.parametrize(
    ("change", "body", "now"),
    [
        ({}, BODY + b" ", NOW),
        ({"webhook-id": "msg_2"}, BODY, NOW),
        ({"webhook-timestamp": str(NOW + 1)}, BODY, NOW),
        ({"webhook-timestamp": "soon"}, BODY, NOW),
        ({"webhook-timestamp": "١٧٩"}, BODY, NOW),
        ({"webhook-timestamp": ""}, BODY, NOW),
        ({"webhook-signature": ""}, BODY, NOW),
        ({"webhook-signature": "v1,ä"}, BODY, NOW),
        ({}, BODY, NOW + 301),
        ({}, BODY, NOW - 301),
    ],
)
def test_a_call_that_was_changed_or_is_old_is_refused(change: dict[str, str], body: bytes, now: float) -> None:
    with pytest.raises(signing.BadSignature):
        signing.verify(SECRET, signing.headers(SECRET, "msg_1", NOW, BODY) | change, body, now)


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    real = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return real(one, other)

    monkeypatch.setattr("api.webhooks.signing.hmac.compare_digest", watched)
    headers = signing.headers(SECRET, "msg_1", NOW, BODY)
    headers["webhook-signature"] += " v1,later"
    signing.verify(SECRET, headers, BODY, NOW)
    assert len(compared) == 2  # the second too, although the first was right
