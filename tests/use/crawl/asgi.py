"""What a server serves: Django's own application, or the bridge's."""

import json
import logging
import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.use.crawl.settings")
said = json.loads(os.environ["CRAWL"])
logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
if said["switch_interval"]:
    sys.setswitchinterval(said["switch_interval"])

if said["bridged"]:
    from django_bridge.asgi import get_asgi_application
else:
    from django.core.asgi import get_asgi_application

application = get_asgi_application()
