"""Named, counter-based random draws: the same draw for any thread, order, batch or restart.

Philox4x32-10 [Salmon et al. 2011, SC '11, doi 10.1145/2063384.2063405] maps (counter, key) to 128 random
bits. The key says which run and which domain, the counter which entity, which step, which named draw. There is
no state, so nothing depends on who asks first. The functions are plain Python on NumPy scalars and arrays;
``agents`` compiles the same functions for every processor.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np

Word = Any
"""An unsigned 32-bit word held in a numpy.uint64 scalar or array (upper half zero)."""

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_FIVE, _SIX = np.uint64(5), np.uint64(6)
_TWO_26 = 67108864.0
_TWO_MINUS_53 = 1.0 / 9007199254740992.0


def philox(c0: Word, c1: Word, c2: Word, c3: Word, k0: Word, k1: Word) -> tuple[Word, Word, Word, Word]:
    """Ten rounds of Philox4x32 on the counter (c0..c3) with the key (k0, k1).

    All arguments are numpy.uint64 holding 32-bit words, scalars or arrays that broadcast; the four words of
    the result likewise. No product of two 32-bit words exceeds 64 bits, so nothing overflows.
    """
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> _SHIFT) ^ c1 ^ k0, p1 & _LOW, (p0 >> _SHIFT) ^ c3 ^ k1, p0 & _LOW
        k0 = (k0 + _W0) & _LOW
        k1 = (k1 + _W1) & _LOW
    return c0, c1, c2, c3


def unit_interval(w0: Word, w1: Word) -> Any:
    """A uniform number in [0, 1) with 53 random bits, from two words."""
    return ((w0 >> _FIVE) * _TWO_26 + (w1 >> _SIX)) * _TWO_MINUS_53


def key(seed: int, domain: str) -> tuple[np.uint64, np.uint64]:
    """The Philox key of a run's seed and a domain's own name (never its place in a batch)."""
    message = b"oncoscale-draws-1" + (seed & (2**64 - 1)).to_bytes(8, "little") + domain.encode()
    digest = blake2b(message, digest_size=8).digest()
    return np.uint64(int.from_bytes(digest[:4], "little")), np.uint64(int.from_bytes(digest[4:], "little"))


def code(name: str) -> np.uint64:
    """The counter word of a draw's name: adding a draw renumbers none."""
    return np.uint64(int.from_bytes(blake2b(name.encode(), digest_size=4).digest(), "little"))


def uniform(seed: int, domain: str, name: str, entity: Any, step: int = 0) -> Any:
    """Uniform numbers in [0, 1) for the named draw, one per entity.

    entity   int or integer array: the persistent identity that draws
    returns  float or (entities,) array

    >>> float(uniform(1, "element-7", "init.x", 42)) == float(uniform(1, "element-7", "init.x", 42))
    True
    """
    k0, k1 = key(seed, domain)
    c0 = np.asarray(entity, dtype=np.uint64) & _LOW
    words = philox(c0, np.full_like(c0, step), np.full_like(c0, code(name)), np.zeros_like(c0), k0, k1)
    return unit_interval(words[0], words[1])


def normal(seed: int, domain: str, name: str, entity: Any, step: int = 0) -> Any:
    """Standard normal numbers for the named draw (Box-Muller on the four words of one block)."""
    k0, k1 = key(seed, domain)
    c0 = np.asarray(entity, dtype=np.uint64) & _LOW
    words = philox(c0, np.full_like(c0, step), np.full_like(c0, code(name)), np.zeros_like(c0), k0, k1)
    radius = np.sqrt(-2.0 * np.log1p(-unit_interval(words[0], words[1])))
    return radius * np.cos(2.0 * np.pi * unit_interval(words[2], words[3]))
