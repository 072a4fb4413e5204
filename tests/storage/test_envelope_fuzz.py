"""Changed envelopes of every form, each held to both decoders, and what a random number that comes twice would do."""

import base64
import hashlib
import random
from collections import Counter
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage import Unreadable
from storage.sealing import Context, Kind, seal_body, unseal_body
from tests.faults.figures import record
from tests.storage.test_sealing import VECTORS, Refused, expand, first_decoder, second_decoder, second_unwrap

SEED = 20_261_124
LABEL = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"
KEY = bytes(range(32))
OBJECT = b"o" * 16
PLACE = Context(Kind.EVENT, b"t" * 16, b"s" * 16, b"k" * 16, 1, object_id=OBJECT)

# (form, key, place, envelope): what the frozen vectors say opens, so that a seed alone replays a run.
WHOLE = [
    (each["form"], bytes.fromhex(each["key"]), each["place"], base64.b64decode(each["sealed"]))
    for each in VECTORS
    if each["plaintext_sha256"] is not None
]
FORMS = sorted({form for form, *_ in WHOLE})
SIBLINGS = {form: [each for each in WHOLE if each[0] == form] for form in FORMS}
OPERATORS = ["flip", "byte", "cut", "longer", "drop", "swap", "splice", "move", "place", "key"]


def every_bit():
    """Each bit of the shortest envelope of each form, flipped."""
    for form in FORMS:
        _, key, place, sealed = min(SIBLINGS[form], key=lambda each: len(each[3]))
        for bit in range(len(sealed) * 8):
            yield form, key, place, flipped(sealed, bit)


def flipped(value, bit):
    return value[: bit // 8] + bytes([value[bit // 8] ^ 1 << bit % 8]) + value[bit // 8 + 1 :]


def elsewhere(dice, place, other):
    """`place` with one field of `other`, or with one bit of one field changed."""
    if isinstance(place, str):
        return other if dice.random() < 0.5 or not place else flipped(bytes.fromhex(place), 0).hex()
    name = dice.choice(sorted(place))
    if dice.random() < 0.5:
        return {**place, name: other[name]}
    if name == "kind":
        return {**place, name: dice.choice([int(kind) for kind in Kind])}
    value = place[name]
    if isinstance(value, str):
        return {**place, name: flipped(bytes.fromhex(value), dice.randrange(len(value) * 4)).hex()}
    return {**place, name: value ^ 1}


def changed(dice, operator, own):  # noqa: PLR0911
    """`own` after one change; may be `own` itself."""
    form, key, place, sealed = own
    _, other_key, other_place, other = dice.choice(SIBLINGS[form])
    at, end = sorted(dice.randrange(len(sealed) + 1) for _ in range(2))
    match operator:
        case "flip":
            return form, key, place, flipped(sealed, dice.randrange(len(sealed) * 8))
        case "byte":
            return form, key, place, sealed[:at] + dice.randbytes(1) + sealed[at + 1 :]
        case "cut":
            return form, key, place, sealed[:at]
        case "longer":
            return form, key, place, sealed[:at] + dice.randbytes(dice.choice([1, 16, 16_400])) + sealed[at:]
        case "drop":
            return form, key, place, sealed[:at] + sealed[end:]
        case "swap":
            return form, key, place, sealed[end:] + sealed[at:end] + sealed[:at]
        case "splice":
            return form, key, place, sealed[:at] + other[dice.choice([at, end]) :]
        case "move":
            return form, key, other_place, sealed
        case "place":
            return form, key, elsewhere(dice, place, other_place), sealed
    return form, dice.choice([other_key, flipped(key, dice.randrange(256))]), place, sealed


def mutations(count):
    """(operator, form, key, place, envelope), `count` of them: every bit first, then by dice; none is what it was."""
    made = [("bit", *each) for each in every_bit()]
    yield from made[:count]
    dice, number = random.Random(SEED), len(made)
    while number < count:
        own, operator = dice.choice(WHOLE), OPERATORS[number % len(OPERATORS)]
        value = changed(dice, operator, own)
        if value != own:  # a splice, for one, can fall on equal bytes
            number += 1
            yield operator, *value


def check_mutations(count, *, full):
    refused, opened = Counter(), []
    for operator, form, *facts in mutations(count):
        try:
            first_decoder(form, *facts)
        except Unreadable:
            refused[operator] += 1
        else:
            opened.append((operator, form))
        with pytest.raises(Refused):
            second_unwrap(*facts) if form == "wrapped" else second_decoder(form, *facts)
    record("B7", SEED, full=full, mutations=count, refused=refused.total(), opened=len(opened))
    assert opened == []
    assert refused.total() == count
    assert set(refused) == {"bit", *OPERATORS}


def test_both_decoders_open_what_is_not_changed():
    """Else the test below would pass with decoders that refuse everything."""
    for form, *facts in WHOLE:
        second = second_unwrap(*facts) if form == "wrapped" else second_decoder(form, *facts)
        assert first_decoder(form, *facts) == second


def test_no_changed_envelope_opens():
    check_mutations(12_000, full=False)


@pytest.mark.long
def test_none_of_a_hundred_thousand_changed_envelopes_opens():
    check_mutations(100_000, full=True)


def sealed_with(salt, place, plaintext, key=KEY):
    """A body as `seal_body` makes it, but with a given salt; (body, what came of the key schedule)."""
    secret = expand(key, LABEL + salt + place.header(place.object_id), 76)
    chunk = AESGCM(secret[:32]).encrypt(secret[32:44], plaintext, None)
    return salt + secret[44:] + chunk, secret


def check_salts(count, *, full):
    """In one place and under one key, where nothing but the salt tells two seals apart."""
    salts = Counter(seal_body(KEY, PLACE, b"")[:24] for _ in range(count))
    record("B9", SEED, full=full, seals=count, repeats=count - len(salts))
    assert len(salts) == count


def test_a_body_begins_with_its_salt():
    """Else the tests below would look for repeats in the wrong bytes."""
    body = seal_body(KEY, PLACE, b"hello")
    assert sealed_with(body[:24], PLACE, b"hello")[0] == body


def test_no_salt_comes_twice():
    check_salts(100_000, full=False)


@pytest.mark.long
def test_no_salt_comes_twice_in_a_million():
    check_salts(1_000_000, full=True)


def test_a_salt_that_comes_twice_harms_no_other_object():
    """Each field of the place alone makes another key, nonce, commitment and key stream; no body opens elsewhere."""
    salt, plaintext = bytes(24), bytes(64)
    ids = dict.fromkeys(("tenant", "subject", "key_id", "object_id"), b"x" * 16)
    numbers = dict.fromkeys(("generation", "version", "run", "epoch", "watermark"), 2)
    fields = ids | numbers | {"kind": Kind.REPORT, "base": b"b" * 32, "basis": b"b" * 32}
    places = [PLACE, *(replace(PLACE, **{name: value}) for name, value in fields.items())]
    made = [sealed_with(salt, place, plaintext) for place in places]
    for cut in (slice(0, 32), slice(32, 44), slice(44, 76)):
        assert len({secret[cut] for _, secret in made}) == len(places) == 13
    assert len({body[56:] for body, _ in made}) == len(places)  # of zeros: the key stream itself
    for number, (body, _) in enumerate(made):
        for at, place in enumerate(places):
            if at == number:
                assert unseal_body(KEY, place, body) == plaintext
            else:
                with pytest.raises(Unreadable):
                    unseal_body(KEY, place, body)


def test_a_salt_that_comes_twice_harms_nobody_with_another_key():
    salt = bytes(24)
    keys = [hashlib.sha256(bytes([number])).digest() for number in range(200)]
    made = [sealed_with(salt, PLACE, bytes(64), key)[0] for key in keys]
    assert len({body[24:56] for body in made}) == len({body[56:] for body in made}) == 200
    for number, body in enumerate(made):
        assert unseal_body(keys[number], PLACE, body) == bytes(64)
        with pytest.raises(Unreadable):
            unseal_body(keys[number - 1], PLACE, body)
