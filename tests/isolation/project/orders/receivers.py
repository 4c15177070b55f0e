from django.dispatch import receiver

from .models import Event
from .signals import order_placed


@receiver(order_placed)
async def write_it_down(sender, order, **kwargs):
    await Event.objects.acreate(kind="placed", reference=order.reference)
