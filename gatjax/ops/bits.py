"""Random bits as a hash of key and counter: any of them can be drawn alone, in NumPy and JAX alike."""

from typing import Any

import numpy as np


def mix(x: Any) -> Any:
    """A permutation of 32-bit words in which every bit of the input flips each of the output with a chance near 1/2.

    Shifts and multipliers of Wellons's search for 32-bit hashes of low bias.
    """
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def bits(words: Any, counter: Any) -> Any:
    """32 random bits for each counter, mix(mix(counter + mix(first word)) ^ second word).

    Args:
      words: two words of a key, uint32.
      counter: uint32, of any shape.
    """
    # The hash leaves 0 alone, so that under a second word of 0 one entry would come first at every key.
    with np.errstate(over="ignore"):
        second = words[1] + (words[1] == 0) * np.uint32(0x9E3779B9)
        return mix(mix(counter + mix(words[0])) ^ second)


def multiply_high(a: Any, b: Any) -> Any:
    """The upper word of the product of two words: for random a a number below b, uniform up to b / 2³².

    >>> int(multiply_high(np.uint32(2**31), np.uint32(10)))
    5
    """
    low, half = np.uint32(0xFFFF), np.uint32(16)
    a_low, a_high, b_low, b_high = a & low, a >> half, b & low, b >> half
    middle = a_high * b_low + ((a_low * b_low) >> half)
    lower = (middle & low) + a_low * b_high
    return a_high * b_high + (middle >> half) + (lower >> half)
