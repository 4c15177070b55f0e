"""``mapped()`` of Django's models on our pool."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from ..schema import STATION_COLUMNS, StationOut
from .django_models import models_on
from .ours import OurPath


class OurMapped(OurPath):
    name = "our-mapped"
    title = "ours, mapped() Django models"

    async def open(self) -> None:
        models = models_on(self.place)
        from django_bridge import mapped

        self._station: Any = mapped(models.Station)
        self._columns = [getattr(self._station, name) for name in STATION_COLUMNS]
        await super().open()

    async def models(self, first: int, last: int) -> list[StationOut]:
        key = self._station.id
        found = select(*self._columns).where(key.between(first, last)).order_by(key)
        return await self.database.fetch_all(found, into=StationOut)
