"""The ASGI application: Django's, with the bridge's pools opened and closed by the server's lifespan."""

from __future__ import annotations

import os

from django_bridge.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "atlas.settings")

application = get_asgi_application()
