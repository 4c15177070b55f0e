"""What is set on the driver's own object, without a word to the server: the next user of a connection must not meet it.

Row factories, adapters, handlers, SQLite's functions and authorizers. Whatever was set before the first checkout, by
whoever listens to new connections, every connection has; what differs from it at a check-in is its user's, and the
connection is closed.
"""

from __future__ import annotations

from typing import Any


class AtRest:
    """Mixin of :class:`~asyncdb.drivers.physical.PhysicalConnection`, and of the face that another library sees."""

    face: Any = None
    """What another library sees of this connection, kept with it."""
    _at_rest: Any = None

    # -- the driver's part ---------------------------------------------------------------------------------------

    def driver_state(self) -> Any:
        """What can be set on the driver's object, as it is now: to be compared, and cheap."""
        return ()

    def begin_rest(self) -> None:
        """Called before the state is noted, for what it takes to see later changes."""

    # -- what holds of all of them -------------------------------------------------------------------------------

    def note_rest(self) -> None:
        """Takes what is set now for what every user is to find."""
        self.begin_rest()
        self._at_rest = self.driver_state()
        if self.face is not None:
            self.face.note_rest()

    @property
    def is_altered(self) -> bool:
        """Whether somebody has set something since."""
        if self._at_rest is not None and self.driver_state() != self._at_rest:
            return True
        return self.face is not None and bool(self.face.is_altered)
