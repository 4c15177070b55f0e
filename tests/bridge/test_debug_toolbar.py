"""django-debug-toolbar's SQL panel sees the queries of native calls, of ``run_django`` and of sync views."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("debug_toolbar", reason="the group test has it")
PROJECT = """
import asyncio, sys
import django
from django.conf import settings
settings.configure(
    DEBUG=True, SECRET_KEY="only for the tests", ROOT_URLCONF=__name__, USE_TZ=True, ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.staticfiles", "debug_toolbar", "django_bridge"],
    MIDDLEWARE=["django_bridge.middleware.ScopeMiddleware", "debug_toolbar.middleware.DebugToolbarMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    STATIC_URL="static/", INTERNAL_IPS=["127.0.0.1"],
    DEBUG_TOOLBAR_CONFIG={"SHOW_TOOLBAR_CALLBACK": lambda request: True, "IS_RUNNING_TESTS": False},
    DEBUG_TOOLBAR_PANELS=["debug_toolbar.panels.sql.SQLPanel"],
)
django.setup()
from django.contrib.contenttypes.models import ContentType
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.http import HttpResponse
from django.urls import include, path
from debug_toolbar.panels.sql import SQLPanel
from django_bridge import run_django

found = {}
original = SQLPanel.generate_stats
def generate_stats(self, request, response):
    found[request.path] = [query["raw_sql"].split()[0] for query in self._queries]
    return original(self, request, response)
SQLPanel.generate_stats = generate_stats

async def native(request):
    await ContentType.objects.acreate(app_label="a", model="native")
    [item async for item in ContentType.objects.all().aiterator()]
    return HttpResponse("<html><body></body></html>")

async def on_the_loop(request):
    await run_django(lambda: ContentType.objects.count())
    return HttpResponse("<html><body></body></html>")

def sync(request):
    ContentType.objects.count()
    return HttpResponse("<html><body></body></html>")

urlpatterns = [path("native/", native), path("run_django/", on_the_loop), path("sync/", sync),
               path("__debug__/", include("debug_toolbar.urls"))]

async def get(application, where):
    sent = []
    async def receive():
        if not hasattr(receive, "asked"):
            receive.asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.Event().wait()
    async def send(message):
        sent.append(message)
    scope = {"type": "http", "method": "GET", "path": where, "query_string": b"", "headers": [(b"host", b"x")],
             "client": ("127.0.0.1", 1), "server": ("x", 80), "http_version": "1.1", "scheme": "http"}
    async with asyncio.timeout(20):
        await application(scope, receive, send)
    assert sent[0]["status"] == 200, sent

async def main():
    await run_django(call_command, "migrate", verbosity=0)
    application = get_asgi_application()
    for where in ("/native/", "/run_django/", "/sync/"):
        await get(application, where)
    print(found)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_debug_toolbar_sees_every_query(tmp_path: Path) -> None:
    project = tmp_path / "project.py"
    project.write_text(PROJECT)
    done = subprocess.run(
        [sys.executable, project, tmp_path / "books.sqlite3"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        "{'/native/': ['INSERT', 'SELECT'], '/run_django/': ['SELECT'], '/sync/': ['SELECT']}"
    ), done.stderr
