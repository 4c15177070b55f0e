"""Names as people type them: lower-case ASCII, so that every database compares them alike."""

from __future__ import annotations

import re
import unicodedata

# Letters that Unicode does not decompose into an ASCII letter and a mark.
LETTERS = str.maketrans(
    {"æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "ł": "l", "ə": "e", "þ": "th", "ŋ": "n"}
)
APART = re.compile(r"[^a-z0-9]+")
SILENT = re.compile("['`\u02bb\u02bc\u2018\u2019]")


def search_name(text: str) -> str:
    """Folds a name: ``"São Tomé"`` to ``"sao tome"``, ``"L'Aquila"`` to ``"laquila"``.

    Letters without a Latin base are dropped, so that a name in another script folds to nothing.
    """
    if text.isascii():
        return APART.sub(" ", SILENT.sub("", text.lower())).strip()
    plain = unicodedata.normalize("NFKD", SILENT.sub("", text.casefold()).translate(LETTERS))
    letters = "".join(char for char in plain if not unicodedata.combining(char))
    return APART.sub(" ", letters).strip()
