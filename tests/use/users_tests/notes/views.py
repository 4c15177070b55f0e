from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.http import JsonResponse

from .models import Note


def texts():
    return sorted(Note.objects.values_list("text", flat=True))


def write(text):
    Note.objects.create(text=text)


async def async_view(request):
    await Note.objects.acreate(text="view")
    return JsonResponse({"texts": sorted([note.text async for note in Note.objects.all()])})


def sync_view(request):
    write("view")
    return JsonResponse({"texts": texts()})


def sync_middleware(get_response):
    """Beneath it the whole of a request is in a thread."""

    def middleware(request):
        request.notes = Note.objects.count()
        return get_response(request)

    return middleware


class Consumer(AsyncJsonWebsocketConsumer):
    """Writes and reads as it is told: by Django's async ORM, or in a thread."""

    async def receive_json(self, content):
        if content == "thread":
            await database_sync_to_async(write)("consumer")
            found = await database_sync_to_async(texts)()
        else:
            await Note.objects.acreate(text="consumer")
            found = sorted([note.text async for note in Note.objects.all()])
        await self.send_json(found)
