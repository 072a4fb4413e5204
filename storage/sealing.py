"""Sealing: bytes encrypted, bound to their place, and committed to one key.

Theory. Suite 1 is C2SP chunked encryption (https://c2sp.org/chunked-encryption) with AES-256-GCM and SHA-512.
A sealed object is

    off size field
    0   4    "PLR1"
    4   1    format = 1
    5   1    suite  = 1
    6   1    kind
    7   1    flags  = 0
    8   16   object id
    24  16   key id
    40  4    key generation, big endian
    44  2    context length L <= 1024          46  2  zero
    48  L    context
    48+L 24  salt, random
    +24  32  commitment
    +56 ..   chunks of 16384+16 bytes; the last one holds fewer than 16384 and may hold none

    key 32 || base nonce 12 || commitment 32 =
        HKDF-Expand-SHA512(data key, label || 0x00 || salt || header), header = bytes [0, 48+L)

Chunk i is AES-256-GCM(key, base nonce XOR i, no associated data). The header is bound because every key comes from
it; the commitment is compared, in constant time, before anything is decrypted, so that one ciphertext opens under
one key only. Only one encoding of a value exists: any other length, flag, order or trailing byte is refused.

Rows whose columns already say everything in the header keep only the part from the salt on (`seal_body`).
Every failure is the same Unreadable: a reader who may not open something learns nothing from how it failed.
"""

import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from storage.errors import BadRecord, Unreadable

__all__ = ["Context", "Kind", "Unreadable", "derive", "digest32", "seal", "seal_body", "seal_message", "unseal"]
__all__ += ["unseal_body", "unseal_message"]

LABEL = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"
CHUNK, TAG, SALT, COMMITMENT, FIXED = 16_384, 16, 24, 32, 48
MAX_CONTEXT = 1024
PREFIX = struct.Struct(">4sBBBB16s16sIHH")
MAGIC, FORMAT, SUITE = b"PLR1", 1, 1
ZERO_ID = bytes(16)
FIELDS = struct.Struct(">BB16sBB16sBBIBBQBBQBB32sBB32sBBQ")  # each field after its tag, which is its place, and size


class Kind(IntEnum):
    EVENT = 1
    ADAPTER = 2
    REPORT = 3
    BACKUP = 4
    MESSAGE = 5
    BASIS = 6
    EXTERNAL_ID = 7
    STATISTICS = 8


@dataclass(frozen=True, slots=True)
class Context:
    """Where a sealed value belongs. Ids are 16 bytes, digests 32; numbers are unsigned.

    `object_id` None: drawn when sealing, taken from the header when unsealing.
    """

    kind: Kind
    tenant: bytes
    subject: bytes
    key_id: bytes
    generation: int
    object_id: bytes | None = None
    version: int = 0
    run: int = 0
    epoch: int = 0
    base: bytes = bytes(32)
    basis: bytes = bytes(32)
    watermark: int = 0

    def header(self, object_id: bytes) -> bytes:
        ids, digests = (self.tenant, self.subject, object_id, self.key_id), (self.base, self.basis)
        if any(len(each) != 16 for each in ids) or any(len(each) != 32 for each in digests):
            raise BadRecord("context", "ids of 16 bytes and digests of 32")
        fields = FIELDS.pack(
            *(1, 16, self.tenant),
            *(2, 16, self.subject),
            *(3, 4, self.version),
            *(4, 8, self.run),
            *(5, 8, self.epoch),
            *(6, 32, self.base),
            *(7, 32, self.basis),
            *(8, 8, self.watermark),
        )
        return _prefix(self.kind, object_id, self.key_id, self.generation, len(fields)) + fields


def seal(key: bytes, context: Context, plaintext: bytes) -> bytes:
    """The whole object: header and body."""
    header = context.header(context.object_id or secrets.token_bytes(16))
    return header + _seal(key, header, plaintext)


def unseal(key: bytes, context: Context, sealed: bytes) -> bytes:
    """Raise Unreadable unless `sealed` was sealed with `key` for exactly `context`."""
    object_id = sealed[8:24] if context.object_id is None else context.object_id
    if len(object_id) != 16:
        raise Unreadable("the sealed object")
    header = context.header(object_id)
    if sealed[: len(header)] != header:
        raise Unreadable("the sealed object")
    return _unseal(key, header, memoryview(sealed)[len(header) :])


def seal_body(key: bytes, context: Context, plaintext: bytes) -> bytes:
    """Salt, commitment and chunks only; `context` must name its object id, for the row to rebuild the header."""
    return _seal(key, _row_header(context), plaintext)


def unseal_body(key: bytes, context: Context, body: bytes) -> bytes:
    """Raise Unreadable unless `body` was made by seal_body with `key` for exactly `context`."""
    return _unseal(key, _row_header(context), memoryview(body))


def seal_message(key: bytes, context: bytes, plaintext: bytes) -> bytes:
    """An object of kind MESSAGE for the holder of the same `key`, bound to a free `context` of up to 1024 bytes."""
    header = _message_header(secrets.token_bytes(16), context)
    return header + _seal(key, header, plaintext)


def unseal_message(key: bytes, context: bytes, sealed: bytes) -> bytes:
    """Raise Unreadable unless `sealed` was made by seal_message with `key` for exactly `context`."""
    if len(sealed) < FIXED:
        raise Unreadable("the message")
    header = _message_header(bytes(sealed[8:24]), context)
    if sealed[: len(header)] != header:
        raise Unreadable("the message")
    return _unseal(key, header, memoryview(sealed)[len(header) :])


def derive(key: bytes, label: bytes) -> bytes:
    """A key of 32 bytes for one purpose; its label can not collide with that of the envelope."""
    return HKDFExpand(SHA512(), 32, b"plora/" + label).derive(key)


def digest32(name: str) -> bytes:
    """A fingerprint of any spelling as the fixed 32 bytes that a header holds."""
    return hashlib.sha256(name.encode()).digest()


def _prefix(kind: int, object_id: bytes, key_id: bytes, generation: int, length: int) -> bytes:
    return PREFIX.pack(MAGIC, FORMAT, SUITE, kind, 0, object_id, key_id, generation, length, 0)


def _message_header(object_id: bytes, context: bytes) -> bytes:
    if len(context) > MAX_CONTEXT:
        raise BadRecord("context", f"at most {MAX_CONTEXT} bytes")
    return _prefix(Kind.MESSAGE, object_id, ZERO_ID, 0, len(context)) + context


def _row_header(context: Context) -> bytes:
    if context.object_id is None:
        raise BadRecord("object_id", "given, because the row does not store it")
    return context.header(context.object_id)


def _schedule(key: bytes, header: bytes, salt: bytes) -> tuple[AESGCM, int, bytes]:
    """(cipher, base nonce as a number, commitment) of one object."""
    if len(key) != 32:
        raise BadRecord("key", "32 bytes")
    secret = HKDFExpand(SHA512(), 76, LABEL + salt + header).derive(key)
    return AESGCM(secret[:32]), int.from_bytes(secret[32:44], "big"), secret[44:]


def _seal(key: bytes, header: bytes, plaintext: bytes) -> bytes:
    salt = secrets.token_bytes(SALT)
    cipher, nonce, commitment = _schedule(key, header, salt)
    view = memoryview(plaintext)
    # One step past a full chunk gives the empty last one that a length of k * 16384 needs.
    chunks = (
        cipher.encrypt((nonce ^ index).to_bytes(12, "big"), view[start : start + CHUNK], None)
        for index, start in enumerate(range(0, len(plaintext) + 1, CHUNK))
    )
    return b"".join((salt, commitment, *chunks))


def _unseal(key: bytes, header: bytes, body: memoryview) -> bytes:
    start = SALT + COMMITMENT
    if len(body) < start + TAG or (len(body) - start) % (CHUNK + TAG) < TAG:
        raise Unreadable("the sealed object")
    cipher, nonce, commitment = _schedule(key, header, bytes(body[:SALT]))
    if not hmac.compare_digest(commitment, bytes(body[SALT:start])):
        raise Unreadable("the sealed object")
    try:
        return b"".join(
            cipher.decrypt((nonce ^ index).to_bytes(12, "big"), body[at : at + CHUNK + TAG], None)
            for index, at in enumerate(range(start, len(body), CHUNK + TAG))
        )
    except InvalidTag:
        raise Unreadable("the sealed object") from None
