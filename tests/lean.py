"""For a test that starts pytest: without plugins that nothing there asks for, whose packages take seconds to import."""

from __future__ import annotations

LEAN = tuple(
    option for plugin in ("anyio", "faker", "hypothesispytest", "randomly") for option in ("-p", f"no:{plugin}")
)
"""Options of pytest; ``-p randomly`` after them takes one back."""
