"""A ``DatabaseConfig`` in the making, with what could not be honoured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from asyncdb.errors import ConfigurationError


@dataclass
class Draft:
    """Collects the fields of one alias, and every option that cannot be honoured, for one error.

    ``ignored`` are the options that the project told us to do without (``ignore_options``).
    """

    alias: str
    ignored: frozenset[str] = frozenset()
    fields: dict[str, Any] = field(default_factory=dict)
    session_settings: dict[str, Any] = field(default_factory=dict)
    driver_options: dict[str, Any] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def wanted(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Returns ``options`` without those that the project gave up."""
        return {name: value for name, value in options.items() if name not in self.ignored}

    def refuse(self, option: str, reason: str) -> None:
        """Notes that ``option`` cannot be honoured; the reason ends with a remedy and carries no secret."""
        if option not in self.ignored:
            self.refused.append(f"{option!r} {reason}")

    def refuse_rest(self, options: Iterable[str], driver: str) -> None:
        """Refuses what nobody translated."""
        for option in options:
            self.refuse(option, f"has no counterpart in {driver}")

    def seconds(self, field_name: str, option: str, value: Any) -> None:
        """Sets a time-out; ``None`` leaves asyncdb's own, and no time-out may be endless."""
        if value is None:
            return
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            self.refuse(option, "is not a number of seconds")
            return
        if seconds > 0:
            self.fields[field_name] = seconds
        else:
            self.refuse(
                option, f"means no bound, and every wait here has one: give seconds, or {field_name} in ASYNC_DB"
            )

    def close(self) -> None:
        """Raises one ``ConfigurationError`` for all that was refused."""
        if self.refused:
            first = self.refused[0].split("'")[1]
            raise ConfigurationError(
                f"database {self.alias!r}: OPTIONS that the async side cannot honour: {'; '.join(self.refused)}. "
                f"If it may do without them, say so: ASYNC_DB[{self.alias!r}]['ignore_options'] = [{first!r}]",
            )
