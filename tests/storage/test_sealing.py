"""The envelope, held to frozen vectors by the implementation and by a second decoder that shares no code with it."""

import base64
import hashlib
import hmac
import json
import struct
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import BadRecord, KeyRing, Unreadable, seal_message, unseal_message
from storage.keys import KeyPlace
from storage.sealing import Context, Kind, derive, digest32, seal, seal_body, unseal, unseal_body

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())
SEED = 20_261_123
NAMES = [vector["name"] for vector in VECTORS]
KEY = bytes(range(32))
PLACE = Context(Kind.ADAPTER, b"t" * 16, b"s" * 16, b"k" * 16, 1, version=3, run=4, epoch=5, watermark=6)


class FixedKeys:
    """A provider with given epochs."""

    name = "fixed"
    delay = timedelta(0)

    def __init__(self, known):
        self.known = known

    def epochs(self):
        return dict(self.known)


class Refused(Exception):
    """The second decoder's only answer to anything wrong."""


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand of RFC 5869 with SHA-512."""
    out, block = b"", b""
    for counter in range(1, 1 + -(-length // 64)):
        block = hmac.new(key, block + info + bytes([counter]), hashlib.sha512).digest()
        out += block
    return out[:length]


def second_header(form: str, place: object, sealed: bytes) -> bytes:
    """What the header must be, written from the format's description alone."""
    if form == "message":
        context, kind, ids, generation = bytes.fromhex(place), 5, [sealed[8:24], bytes(16)], 0
    else:
        fields = [
            bytes.fromhex(place["tenant"]),
            bytes.fromhex(place["subject"]),
            struct.pack(">I", place["version"]),
            struct.pack(">Q", place["run"]),
            struct.pack(">Q", place["epoch"]),
            bytes.fromhex(place["base"]),
            bytes.fromhex(place["basis"]),
            struct.pack(">Q", place["watermark"]),
        ]
        context = b"".join(struct.pack("BB", tag + 1, len(value)) + value for tag, value in enumerate(fields))
        kind, generation = place["kind"], place["generation"]
        ids = [bytes.fromhex(place["object_id"]), bytes.fromhex(place["key_id"])]
    return (
        b"PLR1\x01\x01"
        + struct.pack("BB", kind, 0)
        + ids[0]
        + ids[1]
        + struct.pack(">IHH", generation, len(context), 0)
        + context
    )


def second_decoder(form: str, key: bytes, place: object, sealed: bytes) -> bytes:
    header = second_header(form, place, sealed)
    if form != "body":
        if not sealed.startswith(header):
            raise Refused
        sealed = sealed[len(header) :]
    salt, commitment, rest = sealed[:24], sealed[24:56], sealed[56:]
    info = b"c2sp.org/chunked-encryption@v1+" + b"AEAD_AES_256_GCM" + b"\x00" + salt + header
    secret = expand(key, info, 76)
    if len(salt) != 24 or not hmac.compare_digest(secret[44:], commitment):
        raise Refused
    plaintext, counter = b"", 0
    while True:
        chunk, rest = rest[:16400], rest[16400:]
        nonce = bytes(a ^ b for a, b in zip(secret[32:44], counter.to_bytes(12, "big"), strict=True))
        try:
            plaintext += AESGCM(secret[:32]).decrypt(nonce, chunk, None)
        except (InvalidTag, ValueError):
            raise Refused from None
        if len(chunk) < 16400:
            if rest:
                raise Refused
            return plaintext
        counter += 1


def second_unwrap(kek: bytes, place: dict, wrapped: bytes) -> bytes:
    if len(wrapped) != 65 or wrapped[0] != 1 or wrapped[1:5] != struct.pack(">I", place["epoch"]):
        raise Refused
    ids = b"".join(bytes.fromhex(place[name]) for name in ("tenant", "subject", "key_id"))
    associated = b"plora/dek/1" + ids + struct.pack(">II", place["generation"], place["epoch"])
    try:
        return AESGCM(kek).decrypt(wrapped[5:17], wrapped[17:], associated)
    except InvalidTag:
        raise Refused from None


def first_decoder(form: str, key: bytes, place: object, sealed: bytes) -> bytes:
    if form == "message":
        return unseal_message(key, bytes.fromhex(place), sealed)
    if form == "wrapped":
        ids = [bytes.fromhex(place[name]) for name in ("tenant", "subject", "key_id")]
        ring = KeyRing(Path("nowhere"), FixedKeys({place["epoch"]: key}), bytes(32), lambda: 0.0)
        return ring.unwrap(sealed, KeyPlace(*ids, place["generation"]))
    facts = {name: bytes.fromhex(value) if isinstance(value, str) else value for name, value in place.items()}
    context = Context(**facts | {"kind": Kind(facts["kind"])})
    return (unseal if form == "object" else unseal_body)(key, context, sealed)


def test_there_are_enough_vectors_of_both_sorts():
    assert len(VECTORS) >= 200
    assert sum(vector["plaintext_sha256"] is None for vector in VECTORS) >= 30


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_both_decoders_agree_with_the_frozen_vector(vector):
    key, sealed = bytes.fromhex(vector["key"]), base64.b64decode(vector["sealed"])
    second = second_unwrap if vector["form"] == "wrapped" else lambda *facts: second_decoder(vector["form"], *facts)
    if vector["plaintext_sha256"] is None:
        with pytest.raises(Unreadable):
            first_decoder(vector["form"], key, vector["place"], sealed)
        with pytest.raises(Refused):
            second(key, vector["place"], sealed)
    else:
        plaintext = first_decoder(vector["form"], key, vector["place"], sealed)
        assert hashlib.sha256(plaintext).hexdigest() == vector["plaintext_sha256"]
        assert second(key, vector["place"], sealed) == plaintext


@given(st.binary(max_size=40_000))
@settings(max_examples=50, deadline=None)
def test_what_is_sealed_unseals_to_itself(plaintext):
    sealed = seal(KEY, PLACE, plaintext)
    assert unseal(KEY, PLACE, sealed) == plaintext
    assert len(sealed) == 48 + 140 + 56 + len(plaintext) + 16 * (len(plaintext) // 16384 + 1)


SEALED = seal(KEY, PLACE, b"a secret " * 100)
OTHER = seal(KEY, PLACE, b"another one " * 100)


@given(st.integers(0, len(SEALED) * 8 - 1))
@settings(max_examples=300, deadline=None)
def test_no_bit_can_be_flipped(bit):
    changed = bytearray(SEALED)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Unreadable):
        unseal(KEY, PLACE, bytes(changed))


@given(st.integers(0, len(SEALED) - 1))
@settings(max_examples=200, deadline=None)
def test_no_cut_opens(length):
    with pytest.raises(Unreadable):
        unseal(KEY, PLACE, SEALED[:length])


@given(st.integers(1, len(SEALED) - 1), st.integers(1, len(OTHER) - 1))
@settings(max_examples=200, deadline=None)
def test_no_splice_of_two_objects_opens(end, start):
    spliced = SEALED[:end] + OTHER[start:]
    if spliced not in {SEALED, OTHER}:
        with pytest.raises(Unreadable):
            unseal(KEY, PLACE, spliced)


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_noise_does_not_open(noise):
    for open_it in (lambda: unseal(KEY, PLACE, noise), lambda: unseal_message(KEY, b"", noise)):
        with pytest.raises(Unreadable):
            open_it()


@given(st.binary(max_size=1024), st.binary(max_size=2000), st.data())
@settings(max_examples=100, deadline=None)
def test_a_message_opens_for_its_own_context_only(context, plaintext, data):
    sealed = seal_message(KEY, context, plaintext)
    assert unseal_message(KEY, context, sealed) == plaintext
    other = data.draw(st.binary(max_size=1024).filter(lambda value: value != context))
    with pytest.raises(Unreadable):
        unseal_message(KEY, other, sealed)


def test_two_seals_of_the_same_value_share_nothing():
    first, second = seal(KEY, PLACE, b"same"), seal(KEY, PLACE, b"same")
    assert first[188:] != second[188:]
    assert len({seal_message(KEY, b"", b"")[48:72] for _ in range(2000)}) == 2000


def test_keys_for_different_purposes_differ():
    assert len({derive(KEY, b"lookup/1"), derive(KEY, b"event-id/1"), KEY}) == 3
    assert digest32("a") == hashlib.sha256(b"a").digest()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: seal(b"short", PLACE, b""),
        lambda: seal_body(KEY, PLACE, b""),
        lambda: seal_message(KEY, bytes(1025), b""),
        lambda: seal(KEY, Context(Kind.EVENT, b"t", b"s" * 16, b"k" * 16, 1), b""),
    ],
)
def test_a_place_that_can_not_be_is_refused(wrong):
    with pytest.raises(BadRecord):
        wrong()


def test_a_ciphertext_made_for_two_keys_opens_under_the_one_it_commits_to():
    """AES-GCM alone allows it; the commitment does not."""
    salt, header = bytes(24), PLACE.header(b"o" * 16)
    info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00" + salt + header
    one, two = (expand(key, info, 76) for key in (KEY, KEY[::-1]))
    ciphertext = open_under_both(one, two)
    for secret in (one, two):
        AESGCM(secret[:32]).decrypt(secret[32:44], ciphertext, None)  # the attack itself works
    body = salt + one[44:] + ciphertext
    assert len(unseal(KEY, PLACE, header + body)) == 32
    with pytest.raises(Unreadable):
        unseal(KEY[::-1], PLACE, header + body)


def open_under_both(one: bytes, two: bytes) -> bytes:
    """Two blocks and a tag that AES-GCM accepts under both (key || nonce): the second block solves for equal tags."""

    def block(key: bytes, value: bytes) -> int:
        cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305
        return int.from_bytes(cipher.update(value), "big")

    def parts(secret: bytes) -> tuple[int, int]:
        return block(secret[:32], bytes(16)), block(secret[:32], secret[32:44] + b"\0\0\0\1")

    (h1, mask1), (h2, mask2) = parts(one), parts(two)
    first, length = 1 << 100, 256  # an arbitrary block; the lengths block of GCM is len(aad) || len(ciphertext) in bits
    squares = times(h1, h1), times(h2, h2)
    cubes = times(squares[0], h1), times(squares[1], h2)
    needed = mask1 ^ mask2 ^ times(first, cubes[0] ^ cubes[1]) ^ times(length, h1 ^ h2)
    second = times(needed, inverse(squares[0] ^ squares[1]))
    tag = mask1 ^ times(first, cubes[0]) ^ times(second, squares[0]) ^ times(length, h1)
    return b"".join(value.to_bytes(16, "big") for value in (first, second, tag))


def times(x: int, y: int) -> int:
    """The product in GCM's field (NIST SP 800-38D, 6.3)."""
    z = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            z ^= y
        y = (y >> 1) ^ (0xE1 << 120 if y & 1 else 0)
    return z


def inverse(x: int) -> int:
    result, power = 1 << 127, x
    for _ in range(127):
        power = times(power, power)
        result = times(result, power)
    return result
