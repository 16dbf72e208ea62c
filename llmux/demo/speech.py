"""What the demo says: words and vectors without meaning, always the same for the same question."""

import itertools
import math
import re
import textwrap
from collections.abc import Iterator
from hashlib import blake2b

#: How many numbers an embedding has.
DIMENSIONS = 16

_HEEDED_CHARACTERS, _ECHOED_CHARACTERS = 1000, 60
_WORDS_IN_A_SENTENCE = 9
_WORDS = re.findall(
    r"\w+",
    """
    amber basin birch bright calm cedar clear cloud coast copper coral crane dawn deep delta dune
    dusk early ember fern field finch flint fog glass gold grain green harbour hazel heron hill
    iron island ivory lake lantern late leaf light linen lively marble meadow mild mist moss north
    oak ocean olive open pearl pine plain quartz quiet rain reed river sand silver slate slow snow
    south stone stream summer swift tide timber valley violet warm wave willow wind winter
    """,
)


def count_tokens(text: str) -> int:
    """Count the tokens of a text; a token is a word here."""
    return len(text.split())


def answer(model: str, prompt: str) -> Iterator[str]:
    """
    Yield the tokens of an answer that never ends; joined, they are its text.

    :param model: the name of who speaks.
    :param prompt: what was said last; its beginning is repeated, so that a reader sees what this
        answers.
    """
    prompt = prompt[:_HEEDED_CHARACTERS]
    heard = textwrap.shorten(prompt, _ECHOED_CHARACTERS, placeholder=" ...")
    opening = f'This is {model}, a demo with no model behind it. You said: "{heard}". My answer:'
    yield from re.findall(r"\s*\S+", opening)
    for number in itertools.count():
        # As many bytes as a sentence has words; each byte chooses one.
        seed = f"{model}\n{prompt}\n{number}".encode()
        choices = blake2b(seed, digest_size=_WORDS_IN_A_SENTENCE).digest()
        sentence = " ".join(_WORDS[byte % len(_WORDS)] for byte in choices).capitalize()
        yield from (f" {word}" for word in f"{sentence}.".split())


def embed(text: str) -> list[float]:
    """Give a text's vector, of length 1; texts that share words lie close to each other."""
    words = text.lower().split() or [""]
    total = [0.0] * DIMENSIONS
    for word in words:
        digest = blake2b(word.encode(), digest_size=2 * DIMENSIONS).digest()
        for index in range(DIMENSIONS):
            total[index] += int.from_bytes(digest[2 * index : 2 * index + 2], "big") / 32768 - 1
    length = math.hypot(*total)
    return [number / length for number in total]
