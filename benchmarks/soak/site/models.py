from django.db import models


class Item(models.Model):
    """Rows of tenants. The server shows, and takes, those of the session's tenant alone: see ``tenancy.py``."""

    tenant = models.IntegerField()
    name = models.CharField(max_length=40)

    class Meta:
        managed = False
        db_table = "tenant_item"


class Account(models.Model):
    balance = models.IntegerField()


class Transfer(models.Model):
    key = models.CharField(max_length=40, unique=True)
    source = models.ForeignKey(Account, models.CASCADE, related_name="+")
    target = models.ForeignKey(Account, models.CASCADE, related_name="+")
    amount = models.IntegerField()
