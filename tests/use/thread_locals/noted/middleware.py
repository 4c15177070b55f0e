"""Sync middleware: whose request it is, and which tenant's."""

from django.conf import settings


def user(get_response):
    from django.contrib.auth.models import User

    def middleware(request):
        request.user = User.objects.get(username=request.headers["X-User"])
        return get_response(request)

    return middleware


if "multitenant" in settings.PACKAGES:
    from django_multitenant.utils import set_current_tenant, unset_current_tenant

    def tenant(get_response):
        from .models import Store

        def middleware(request):
            set_current_tenant(Store.objects.get(name=request.headers["X-User"]))
            try:
                return get_response(request)
            finally:
                unset_current_tenant()

        return middleware
