"""Errors as JSON, for the clients to judge; and sync middleware that says the tenant, as projects have it."""

import logging
import sys

from django.http import JsonResponse

from asyncdb import CommitInDoubt

from .tenancy import set_tenant

log = logging.getLogger("storm")


def told(err: BaseException) -> dict:
    """What the client may know: the error's names, outermost first, and whether a commit is in doubt."""
    causes: list[BaseException] = []
    at: BaseException | None = err
    while at is not None and at not in causes:
        causes.append(at)
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return {
        "error": [type(cause).__name__ for cause in causes],
        "says": str(err)[:200],
        "in_doubt": any(isinstance(cause, CommitInDoubt) for cause in causes),
    }


def server_error(request):
    """Django's handler of any exception that left a view or a middleware: a 500 that says which."""
    err = sys.exc_info()[1]
    log.error("%s", request.path, exc_info=err)
    return JsonResponse(told(err), status=500)


def tenant(get_response):
    """Sync alone, so that each async view is beneath a thread; what it says holds until the body is sent."""

    def middleware(request):
        if "tenant" in request.GET:
            set_tenant(int(request.GET["tenant"]))
            request.has_tenant = True
        return get_response(request)

    return middleware
