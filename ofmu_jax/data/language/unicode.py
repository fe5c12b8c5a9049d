"""Texts that look the same, written the same."""

import functools
import unicodedata

# Default-ignorable characters that are no format characters (Cf).
_INVISIBLE = {0x034F, 0x115F, 0x1160, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10)}
_SIGNS = {
    **dict.fromkeys(map(ord, "‘’‛ʼ`´"), "'"),
    **dict.fromkeys(map(ord, "“”‟"), '"'),
    **dict.fromkeys(map(ord, "‐‑‒–—−"), "-"),
}
# Compatible, yet another text: 10² is not 102.
_OF_MEANING = ("<super>", "<sub>", "<fraction>")


@functools.lru_cache(maxsize=65536)
def folded(text: str) -> str:
    """A text for comparison: another that looks like it gives the same.

    Letter case, spacing (of any kind), invisible characters (zero-width ones, soft
    hyphens, marks of direction), composition (NFC, NFD), presentation forms (ligatures,
    full width) and the shapes of quotes and dashes are ignored.

    >>> folded("Cafe\u0301\u200b\xa0 O’Neil") == folded("café o'neil")
    True
    >>> folded("10²") == folded("102")
    False
    """
    if not text.isascii():
        text = "".join(map(_plain, text.translate(_SIGNS)))
        text = unicodedata.normalize("NFC", text)
    text = " ".join(text.translate(_SIGNS).split()).casefold()
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _plain(c: str) -> str:
    if unicodedata.category(c) == "Cf" or ord(c) in _INVISIBLE:
        return ""
    if unicodedata.decomposition(c).startswith(_OF_MEANING):
        return c
    return unicodedata.normalize("NFKC", c)
