"""Takes the places out of ``uv.lock``: which index a file came from, and the URL it was fetched by.

The lock pins names, versions and hashes. Where the files come from is left to the index that
each machine is configured for, so that a mirror or a proxy serves them as well as the registry
itself; a file that is not the pinned one fails its hash wherever it came from. uv reads the
stripped lock with ``uv export --frozen``, and ``uv lock`` re-resolves it from there.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_INDEX = re.compile(r'registry = "[^"]*"')
_URL = re.compile(r'\burl = "https?://[^"]*/([^"/#]+)"')
_PLACE = re.compile(r"(?:https?|file)://\S+")


def strip(lock: str) -> str:
    """Returns the lock with each URL cut to its file name; ``ValueError`` if a place is left in it."""
    stripped = _URL.sub(r'filename = "\1"', _INDEX.sub('registry = "pypi"', lock))
    if left := _PLACE.search(stripped):
        raise ValueError(f"{left.group()} is neither an index nor a file of one: this lock cannot be stripped")
    return stripped


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(strip(path.read_text(encoding="utf-8")), encoding="utf-8")
