"""What projects have of their own: a middleware that remembers whose request it is."""

import threading

_state = threading.local()


def remember(get_response):
    def middleware(request):
        _state.user = request.headers["X-User"]
        try:
            return get_response(request)
        finally:
            del _state.user

    return middleware


def current():
    return getattr(_state, "user", "nobody")
