import logging
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.soak.site.settings")
logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")

from django_bridge.asgi import get_asgi_application  # noqa: E402

application = get_asgi_application()
