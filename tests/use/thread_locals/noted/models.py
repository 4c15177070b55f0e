"""Rows that say whose they are, each in the way of one package."""

from django.conf import settings
from django.db import models
from django.db.models.signals import post_save, pre_save
from django.dispatch import receiver


class Note(models.Model):
    """``name`` is what the view writes, the others what packages tell at that moment."""

    name = models.CharField(max_length=40)
    saved_by = models.CharField(max_length=40, default="")
    seen_by = models.CharField(max_length=40, default="")


class Entry(models.Model):
    """A log that receivers write."""

    name = models.CharField(max_length=40)
    seen_by = models.CharField(max_length=40)


def told():
    """Whose request it is, by the packages that are installed."""
    if "own" in settings.PACKAGES:
        from .own import current

        return current()
    if "crum" in settings.PACKAGES:
        from crum import get_current_user

        return getattr(get_current_user(), "username", "nobody")
    return "nobody"


@receiver(pre_save, sender=Note)
def mark(sender, instance, **kwargs):
    instance.seen_by = told()


@receiver(post_save, sender=Note)
def log(sender, instance, **kwargs):
    Entry.objects.create(name=instance.name, seen_by=told())


if "crum" in settings.PACKAGES:

    def save(self, *args, **kwargs):
        from crum import get_current_user

        self.saved_by = getattr(get_current_user(), "username", "nobody")
        models.Model.save(self, *args, **kwargs)

    Note.save = save

if "multitenant" in settings.PACKAGES:
    from django_multitenant.fields import TenantForeignKey
    from django_multitenant.models import TenantModel

    class Store(TenantModel):
        name = models.CharField(max_length=40)

        class TenantMeta:
            tenant_field_name = "id"

    class Product(TenantModel):
        name = models.CharField(max_length=40)
        store = TenantForeignKey(Store, on_delete=models.CASCADE)

        class TenantMeta:
            tenant_field_name = "store_id"


if "pghistory" in settings.PACKAGES:
    import pghistory
    import pgtrigger

    @pghistory.track(pghistory.InsertEvent(), pghistory.UpdateEvent())
    class Tracked(models.Model):
        name = models.CharField(max_length=40)

        class Meta:
            triggers = [pgtrigger.Protect(name="keep", operation=pgtrigger.Delete)]
