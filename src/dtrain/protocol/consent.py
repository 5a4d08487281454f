"""The owner's code: how an answer that was given on a worker's page is shown to be the owner's.

The worker makes the code and keeps it. The page asks for it, and the server makes of it a proof
for one answer, which the worker compares with its own. So the server never stores the code, and
without it can start nothing on a worker whose owner wants to be asked.
"""

from __future__ import annotations

import hashlib
import hmac

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no letter in it looks like another sign."""
CODE_LENGTH = 8
"""Symbols, of 5 bits each: enough for a check that takes a few tries a minute."""
_LOOK_ALIKE = str.maketrans("OIL", "011")


def normal(code: str) -> str:
    """A code as it was meant: capitals, without spaces and dashes, look-alikes put right."""
    return "".join(code.upper().replace("-", " ").split()).translate(_LOOK_ALIKE)


def shown(code: str) -> str:
    """A code as people read it, in two halves."""
    return f"{code[: CODE_LENGTH // 2]}-{code[CODE_LENGTH // 2 :]}"


def key_of(code: str, worker_id: str) -> bytes:
    """What proofs are made with. Slow on purpose: a proof must not give the code away."""
    salt = f"dtrain owner {worker_id}".encode()
    secret = normal(code).encode(errors="replace")
    return hashlib.scrypt(secret, salt=salt, n=2**14, r=8, p=1, dklen=32)


def prove(key: bytes, answer_id: str, job_id: int, *, accept: bool, reason: str | None) -> str:
    """The proof that whoever gives this one answer has the code."""
    words = f"{answer_id}\n{job_id}\n{'accept' if accept else 'decline'}\n{reason or ''}"
    return hmac.new(key, words.encode(errors="replace"), hashlib.sha256).hexdigest()
