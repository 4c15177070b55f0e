"""What an instrumented wrapper does: it wraps cursors, commits and the server's version."""

from __future__ import annotations

from collections import Counter
from typing import Any

seen: Counter[str] = Counter()


class Counting:
    """Mixin of Django's wrappers."""

    def make_cursor(self, cursor: Any) -> Any:
        seen["cursor"] += 1
        return super().make_cursor(cursor)  # type: ignore[misc]

    def create_cursor(self, name: str | None = None) -> Any:
        seen["created"] += 1
        return super().create_cursor(name)  # type: ignore[misc]

    def _commit(self) -> Any:
        seen["commit"] += 1
        return super()._commit()  # type: ignore[misc]

    def get_database_version(self) -> Any:
        seen["version"] += 1
        return super().get_database_version()  # type: ignore[misc]
