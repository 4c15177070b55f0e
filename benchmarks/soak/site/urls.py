from django.urls import path

from . import views

urlpatterns = [
    *(path(f"tenant/{name}/", view) for name, view in views.TENANT_VIEWS.items()),
    path("events/", views.events),
    path("temporary/", views.temporary),
    path("probe/", views.probe),
    path("session/sync/", views.sync_session),
    path("session/async/", views.async_session),
    path("transfer/sync/", views.sync_transfer),
    path("transfer/native/", views.native_transfer),
    path("transfer/both/", views.both_transfer),
    path("state/", views.state),
]
handler500 = "benchmarks.soak.site.middleware.server_error"
