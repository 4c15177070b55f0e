"""Makes the tables, sends the requests, 32 at once, and writes what came of them to standard output, as JSON."""

import asyncio
import json
import os
import sys

os.environ["DJANGO_SETTINGS_MODULE"] = "noted.settings"

import django

django.setup()

from django.apps import apps
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.db import connection

USERS = [f"u{number:02}" for number in range(32)]


async def ask(application, path, user, number):
    """One request through Django's ASGI handler; its status and body."""
    sent = []

    async def receive():
        if asked:
            await asyncio.Event().wait()
        asked.append(1)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    asked = []
    headers = [(b"host", b"noted"), (b"x-user", user.encode()), (b"x-ignores", b"01"[number % 2 : number % 2 + 1])]
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
    scope |= {"path": f"/{path}/", "raw_path": b"", "query_string": b"", "root_path": "", "headers": headers}
    await application(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], body.decode()


async def everybody(paths):
    application = get_asgi_application()
    answers = {}
    try:
        for path in paths:
            found = await asyncio.gather(*(ask(application, path, user, n) for n, user in enumerate(USERS)))
            bad = [body for status, body in found if status != 200]
            assert not bad, f"{path}: {len(bad)} requests failed: {bad[0][:3000]}"
            answers[path] = [json.loads(body) for _, body in found]
        if settings.BRIDGED:
            answers["replaced"], answers["left"] = replaced(), left_behind()
    finally:
        if settings.BRIDGED:
            from asyncdb import registry

            await registry.close_all()
    return answers


def replaced():
    from django_bridge.thread_locals import _process

    return sorted(wanted.path for wanted in _process.wanted if wanted.done)


def left_behind():
    """What a task of no request sees of the objects that were replaced."""
    from django_bridge.thread_locals import _process

    return {name: vars(new) for _, name, new, _ in _process.exchanged if vars(new)}


def prepare():
    call_command("migrate", verbosity=0)
    call_command("migrate", verbosity=0, run_syncdb=True)
    from django.contrib.auth.models import User

    User.objects.bulk_create([User(username=name, password="!") for name in USERS])
    if "multitenant" in settings.PACKAGES:
        apps.get_model("noted.Store").objects.bulk_create([apps.get_model("noted.Store")(name=name) for name in USERS])
    if "pghistory" in settings.PACKAGES:
        call_command("pgtrigger", "install")


def rows():
    """What the tables say at the end, read past every package."""
    found = {}
    with connection.cursor() as cursor:

        def all_of(sql):
            cursor.execute(sql)
            return [list(row) for row in cursor.fetchall()]

        found["notes"] = all_of("SELECT name, saved_by, seen_by FROM noted_note ORDER BY name, saved_by, seen_by")
        found["log"] = all_of("SELECT name, seen_by FROM noted_entry ORDER BY name, seen_by")
        if "multitenant" in settings.PACKAGES:
            found["products"] = all_of(
                "SELECT p.name, s.name FROM noted_product p JOIN noted_store s ON s.id = p.store_id ORDER BY 1"
            )
        if "pghistory" in settings.PACKAGES:
            found["events"] = all_of(
                "SELECT e.name, e.pgh_label, u.username, c.metadata->>'url', c.metadata->>'view', "
                "c.metadata->>'function' FROM noted_trackedevent e "
                "LEFT JOIN pghistory_context c ON c.id = e.pgh_context_id "
                "LEFT JOIN auth_user u ON u.id = (c.metadata->>'user')::int ORDER BY 1, 2"
            )
        if "silk" in settings.PACKAGES:
            found["recorded"] = recorded(all_of)
    return found


def recorded(all_of):
    """For each request, told by the users in its queries, how often each name was asked for."""
    by_request = {}
    for request, query in all_of("SELECT request_id, query FROM silk_sqlquery WHERE query LIKE '%noted_note%'"):
        names = by_request.setdefault(str(request), [])
        names.append(query.partition('name" = ')[2] or query.partition("name` = ")[2])
    return sorted(sorted(name.strip("'\" );") for name in names) for names in by_request.values())


if __name__ == "__main__":
    prepare()
    answers = asyncio.run(everybody(sys.argv[1:]))
    print(json.dumps({"answers": answers, "rows": rows()}, default=str))
    connection.close()
