"""One random seed per thing that draws, derived from the seed of the run.

What a sample draws must not depend on which actor made it, in which batch, or in which order:
its seed is a hash of its name.
"""

import hashlib


def derive(seed: int, *name: str | int) -> int:
    """A 63-bit seed for the thing called `name` in the run with this seed.

    Example:
        >>> derive(0, "sample", 3, 17, 2) == derive(0, "sample", 3, 17, 2)
        True
    """
    text = "/".join(str(part) for part in (seed, *name))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
