"""Writes signatures.json, which the tests of Rust and of the web chat read: python3 make_signatures.py

Honest signatures are made by the package `cryptography` (OpenSSL). Whether a signature is accepted is
computed here, by the formulas of RFC 8032 and three rules more: no key and no R of small order, no
spelling of a number or a point but the shortest, and S B = R + k A without the cofactor. Cases are
those of "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko, 2020), with keys of our own.
"""
import hashlib
import json
import pathlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)
IDENTITY = (0, 1)


def add(a, b):
    (x1, y1), (x2, y2) = a, b
    k = D * x1 * x2 * y1 * y2
    return ((x1 * y2 + x2 * y1) * pow(1 + k, P - 2, P) % P,
            (y1 * y2 + x1 * x2) * pow(1 - k, P - 2, P) % P)


def times(n, point):
    out = IDENTITY
    while n:
        if n & 1:
            out = add(out, point)
        point, n = add(point, point), n >> 1
    return out


def negative(point):
    return (-point[0] % P, point[1])


def encode(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def decode(data):
    """The point, or None where this is not its one spelling."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    return (x if x & 1 == sign else P - x, y)


BASE = decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def is_small(point):
    return times(8, point) == IDENTITY


def challenge(r, key, message):
    return int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L


def accepts(key, message, signature):
    a, r, s = decode(key), decode(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or is_small(a) or is_small(r) or s >= L:
        return False
    k = challenge(signature[:32], key, message)
    return times(s, BASE) == add(r, times(k, a))


class Key:
    """A secret key from a seed of one byte, again and again."""

    def __init__(self, seed):
        self.secret = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.public = self.secret.public_key().public_bytes_raw()
        half = bytearray(hashlib.sha512(bytes([seed]) * 32).digest()[:32])
        half[0] &= 248
        half[31] = half[31] & 127 | 64
        self.scalar = int.from_bytes(half, "little")

    @property
    def hex(self):
        return self.public.hex()

    def sign(self, message):
        return self.secret.sign(message)


def number(n):
    return n.to_bytes(32, "little")


def ed25519_cases():
    alice, message = Key(1), b"a bundle"
    honest = alice.sign(message)
    s = int.from_bytes(honest[32:], "little")
    cases = [("as it was signed", alice.public, message, honest),
             ("of no bytes", alice.public, b"", alice.sign(b"")),
             ("of another message", alice.public, message + b" ", honest),
             ("by another key", Key(2).public, message, honest),
             ("with another R", alice.public, message, alice.sign(b"x")[:32] + honest[32:]),
             ("with S + L, which means the same", alice.public, message,
              honest[:32] + number(s + L)),
             ("with the top bit of S set", alice.public, message, honest[:32] + number(s | 1 << 255)),
             ("with S = 0", alice.public, message, honest[:32] + number(0)),
             ("with an R that is no point", alice.public, message, number(2) + honest[32:]),
             ("with a key that is no point", number(2), message, honest)]
    # A point of order 8: L times a point that has such a part.
    y = 3
    while True:
        point = decode(number(y))
        torsion = times(L, point) if point else IDENTITY
        if times(4, torsion) != IDENTITY:
            break
        y += 1
    for order in range(8):
        small = times(order, torsion)
        # S = 0 and R = -k A hold for some message without the rule on small orders.
        for count in range(1000):
            text = b"small %d" % count
            for r in (times(other, torsion) for other in range(8)):
                if r == negative(times(challenge(encode(r), encode(small), text), small)):
                    cases.append((f"with the key {order} T of small order", encode(small), text,
                                  encode(r) + number(0)))
                    break
            else:
                continue
            break
        # The same beside an R that is sound: S = r, where k is a multiple of 8.
        r = encode(times(54321, BASE))
        text = next(text for text in (b"sound %d" % count for count in range(1000))
                    if challenge(r, encode(small), text) % 8 == 0)
        cases.append((f"with the key {order} T of small order and a sound R", encode(small), text,
                      r + number(54321)))
    for what, data in (("identity", number(P + 1)), ("identity with a sign", number(1 | 1 << 255)),
                       ("point of order 4", number(P))):
        cases.append((f"with another spelling of the {what} as its key", data, message,
                      encode(IDENTITY) + number(0)))
        r = data
        k = challenge(r, alice.public, message)
        cases.append((f"with another spelling of the {what} as its R", alice.public, message,
                      r + number(k * alice.scalar % L)))
    r = encode(IDENTITY)
    k = challenge(r, alice.public, message)
    cases.append(("with an R of small order", alice.public, message,
                  r + number(k * alice.scalar % L)))
    # A key with a part of order 8: the equation holds where k is a multiple of 8, and otherwise only
    # when both sides are multiplied by the cofactor.
    mixed = encode(add(times(alice.scalar, BASE), torsion))
    nonce, found = 12345, {}
    for count in range(1000):
        text = b"mixed %d" % count
        r = encode(times(nonce, BASE))
        k = challenge(r, mixed, text)
        found.setdefault(k % 8 == 0, (text, r + number((nonce + k * alice.scalar) % L)))
    cases.append(("with a key of mixed order that holds as it is", mixed, *found[True]))
    cases.append(("with a key of mixed order that holds times 8 only", mixed, *found[False]))
    r = encode(add(times(nonce, BASE), torsion))
    k = challenge(r, alice.public, message)
    cases.append(("with an R of mixed order that holds times 8 only", alice.public, message,
                  r + number((nonce + k * alice.scalar) % L)))
    return [{"what": what, "public_key": key.hex(), "message": text.hex(),
             "signature": signature.hex(), "accepted": accepts(key, text, signature)}
            for what, key, text, signature in cases]


def message(kind, content):
    return b"pocketgpt-signature 2 " + kind.encode() + b"\n" + content


def statement(kind, key, new=None, by=None):
    lines = [key.hex] + ([new.hex] if new else [])
    content = "".join(line + "\n" for line in lines).encode()
    out = {"format": "pocketgpt-key-statement", "version": 1, "kind": kind, "key": key.hex}
    if new:
        out["new_key"] = new.hex
    return out | {"signature": (by or key).sign(message(kind, content)).hex()}


def rotation(old, new, by=None):
    return statement("rotation", old, new, by)


def revocation(key, by=None):
    return statement("revocation", key, by=by)


def signature(key, data, statements=(), signed=None):
    signed = message("bundle", data) if signed is None else signed
    return {"format": "pocketgpt-signature", "version": 2, "algorithm": "Ed25519",
            "public_key": key.hex, "signature": key.sign(signed).hex(),
            "statements": list(statements)}


def without(json_object, key):
    return {name: value for name, value in json_object.items() if name != key}


def bundle_cases():
    a, b, c, mallory = Key(1), Key(2), Key(3), Key(9)
    data = b'{"name":"tiny"}\n'
    good = signature(a, data)
    cases = []

    def case(what, sig, state="invalid", data=data, trusted=None, follows=None):
        text = sig if isinstance(sig, str) else json.dumps(sig)
        out = {"what": what, "bundle": data.hex(), "signature": text, "state": state}
        if state == "valid":
            out["key"] = json.loads(text)["public_key"]
        if trusted:
            out |= {"trusted": trusted.hex, "follows": follows}
        cases.append(out)

    case("as it was signed", good, "valid", trusted=a, follows=True)
    case("for one who trusts another key", good, "valid", trusted=b, follows=False)
    case("with a byte-order mark before bundle.json", good, data=b"\xef\xbb\xbf" + data)
    case("with bytes that are not UTF-8", signature(a, b"\xff"), "valid", data=b"\xff")
    case("of those bytes as a decoder replaces them", signature(a, "\ufffd".encode()), data=b"\xff")
    case("with another end of line", good, data=data.replace(b"\n", b"\r\n"))
    case("with a byte-order mark before bundle.sig", "\ufeff" + json.dumps(good))
    case("of the bytes alone, as version 1 had it", signature(a, data, signed=data))
    case("that says it is version 1", good | {"version": 1})
    case("of another format", good | {"format": "pocketgpt-key-statement"})
    case("of another algorithm", good | {"algorithm": "RSA"})
    case("with a key more", good | {"comment": ""})
    case("without statements", without(good, "statements"))
    case("with statements that are no list", good | {"statements": {}})
    case("with a key in capitals", good | {"public_key": a.hex.upper()})
    case("with a short key", good | {"public_key": "ab"})
    case("with a short signature", good | {"signature": "ab"})
    case("that is no JSON", "x")
    case("that is a list", "[]")
    case("by another key than it says", good | {"public_key": b.hex})

    by_b = lambda *statements: signature(b, data, statements)
    case("after a rotation", by_b(rotation(a, b)), "valid", trusted=a, follows=True)
    case("after a rotation, for one who trusts the new key", by_b(rotation(a, b)), "valid",
         trusted=b, follows=True)
    case("after two rotations", signature(c, data, [rotation(b, c), rotation(a, b)]), "valid",
         trusted=a, follows=True)
    case("after two rotations of which one is missing", signature(c, data, [rotation(b, c)]),
         "valid", trusted=a, follows=False)
    case("after a rotation that the new key signed", by_b(rotation(a, b, by=b)))
    case("after a rotation to another key", by_b(rotation(a, c)), "valid", trusted=a, follows=False)
    case("after a rotation back", by_b(rotation(b, a)))
    case("by a key that replaced itself", good | {"statements": [rotation(a, b)]})
    case("with a rotation to itself", by_b(rotation(a, a)))
    case("with a circle of rotations", signature(c, data, [rotation(a, b), rotation(b, a)]),
         "valid", trusted=a, follows=False)
    case("with two successors of one key", by_b(rotation(a, b), rotation(a, c)))
    case("with one statement twice", by_b(rotation(a, b), rotation(a, b)))
    case("with a rotation of version 2", by_b(rotation(a, b) | {"version": 2}))
    case("with a rotation with a key more", by_b(rotation(a, b) | {"comment": ""}))
    case("with a rotation without its new key", by_b(without(rotation(a, b), "new_key")))
    case("with a revocation with a new key", by_b(revocation(a) | {"new_key": b.hex}))
    case("with a statement of no known kind", by_b(rotation(a, b) | {"kind": "delegation"}))

    case("after a revocation of the key trusted", by_b(rotation(a, b), revocation(a)), "valid",
         trusted=a, follows=False)
    case("after a revocation of a key on the way",
         signature(c, data, [rotation(a, b), rotation(b, c), revocation(b)]), "valid",
         trusted=a, follows=False)
    case("after a revocation, for one who trusts the new key", by_b(revocation(a)), "valid",
         trusted=b, follows=True)
    case("by a key that is revoked", by_b(revocation(b)), "revoked")
    case("with a revocation by another key", by_b(revocation(b, by=mallory)))

    # One kind of text never passes for another.
    lines = f"{a.hex}\n{b.hex}\n".encode()
    case("of a rotation, given out for a bundle", signature(a, lines, signed=message("rotation", lines)),
         data=lines)
    as_bundle = message("bundle", lines)
    case("with a bundle given out for a rotation",
         by_b(rotation(a, b) | {"signature": a.sign(as_bundle).hex()}))
    case("with a revocation given out for a rotation",
         by_b(rotation(a, b) | {"signature": revocation(a)["signature"]}))
    full = [rotation(Key(100 + n), a) for n in range(64)]
    case("with as many statements as there may be", good | {"statements": full}, "valid", trusted=a,
         follows=True)
    case("with one statement too many", good | {"statements": full + [rotation(b, a)]})
    return cases


golden = {"ed25519": ed25519_cases(), "bundles": bundle_cases()}
rows = [f'  "{name}": [\n' + ",\n".join("    " + json.dumps(case) for case in cases) + "\n  ]"
        for name, cases in golden.items()]
path = pathlib.Path(__file__).with_name("signatures.json")
path.write_text("{\n" + ",\n".join(rows) + "\n}\n")
