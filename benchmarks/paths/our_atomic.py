"""``Database.atomic()``: the same three writes, committed by the block."""

from __future__ import annotations

from .ours import OurPath
from .session_requests import transfer_in


class OurAtomic(OurPath):
    name = "our-atomic"
    title = "ours, Database.atomic()"

    async def transfer(self, source: int, target: int, amount: int) -> None:
        async with self.database.atomic() as session:
            await transfer_in(session, source, target, amount)
