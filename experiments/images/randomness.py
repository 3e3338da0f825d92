"""Where every random number of the data path comes from: seeds derived from what is drawn, never from a global state.

Order and views are pure functions of the run's seed and of a position in the run. A run that was stopped therefore
continues with the very numbers it would have had, and the number of workers or of threads changes nothing.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What the numbers are for: second element of a key, after the run's seed.

    - `ORDER`: key `(seed, ORDER, epoch)`, the order of the images in an epoch.
    - `VIEWS`: key `(seed, VIEWS, step, rank, view)`, one view of all images of a step on one device.
    """

    ORDER = 0
    VIEWS = 1


def derived_seed(*key: int) -> int:
    """Hash a key of whole numbers to a seed of 63 bits; keys that differ give seeds that look independent.

    The hash is NumPy's `SeedSequence` (after M. E. O'Neill, "Developing a seed_seq Alternative", 2015). Left to itself
    it takes (1, 2), (1, 2, 0) and 1 + 2·2³² for the same key, because it pads with zeros and cuts
    large numbers in pieces; so each number is given as two words, after the length of the key.

    Args:
        key: At least one whole number from 0 to 2⁶⁴ − 1, for example `(seed, Stream.ORDER, epoch)`.

    Returns:
        A number from 0 to 2⁶³ − 1, which any generator takes as a seed. PyTorch's generator on the CPU looks at its
        lower 32 bits only: among N seeds, about N² / 2³³ pairs then draw the same numbers.

    Raises:
        ValueError: If the key is empty, or a number lies outside the range.

    Example:
        >>> derived_seed(0, Stream.ORDER, 3)
        467699349253774394
        >>> derived_seed(1, 2) == derived_seed(1, 2, 0)
        False
    """
    if not key:
        raise ValueError("key must hold at least one whole number, got none")
    words = [len(key)]
    for number in key:
        if not 0 <= number < 1 << 64:
            raise ValueError(f"key must hold whole numbers from 0 to 2**64 - 1, got {number} in {tuple(map(int, key))}")
        words += [int(number) & 0xFFFFFFFF, int(number) >> 32]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]) >> 1


def derived_generator(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Make a generator on a device that is seeded with `derived_seed(*key)`.

    A generator on a GPU draws other numbers than one on the CPU with the same seed.

    Args:
        key: As in `derived_seed`.
        device: Where the generator draws.

    Raises:
        ValueError: As `derived_seed`.

    Example:
        >>> torch.randperm(4, generator=derived_generator(0, Stream.ORDER, 3)).tolist()
        [1, 0, 3, 2]
    """
    return torch.Generator(device).manual_seed(derived_seed(*key))
