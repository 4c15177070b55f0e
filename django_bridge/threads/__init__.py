"""Django's own wrappers and drivers in threads, on connections of a bounded pool: ``ASYNC_DB[alias]["thread_pool"]``.

For WSGI servers, Celery's workers, management commands, and for the threads of ``ASYNC_DB_MODE=threads``.
"""

from .pools import close_pools, enable, forget, has_pool, require_possible, stats
from .wrappers import adopt

__all__ = ["adopt", "close_pools", "enable", "forget", "has_pool", "require_possible", "stats"]
