"""Every path. A further one is one more file here, and one more line below."""

from __future__ import annotations

from .base import Path
from .checkouts import OurPool, SilentPool, StockPool
from .django_native import NativeBuiltOnce, NativeORM
from .django_orm import DjangoORM
from .django_sync import SyncORM
from .our_atomic import OurAtomic
from .our_mapped import OurMapped
from .our_session import OurSession
from .our_verbs import OurVerbs
from .raw_asyncmy import RawAsyncmy
from .raw_psycopg import RawPsycopg
from .stock_core import StockCore
from .stock_session import StockSession, StockSessionWithoutPing

# The first of a family is its unit.
PATHS: tuple[type[Path], ...] = (
    RawAsyncmy,
    RawPsycopg,
    StockCore,
    StockSession,
    StockSessionWithoutPing,
    DjangoORM,
    SyncORM,
    NativeORM,
    NativeBuiltOnce,
    OurVerbs,
    OurMapped,
    OurSession,
    OurAtomic,
    StockPool,
    SilentPool,
    OurPool,
)
