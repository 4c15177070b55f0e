"""Everybody sees their own objects alone: several clients at once do not disturb each other then."""

import re

from django.contrib import admin


def own_name(request):
    """What the names of this request's objects end with: its user's number, or what ``?of=`` says."""
    found = re.search(r"-of-(\d+)$", request.user.get_username())
    return f"of {found[1]}" if found else request.GET.get("of", "")


class OwnAdmin(admin.ModelAdmin):
    own = None
    """The lookup of the name by which an object is somebody's; None: everybody's."""

    def get_queryset(self, request):
        found = super().get_queryset(request)
        return found.filter(**{f"{self.own}__endswith": own_name(request)}) if self.own else found
