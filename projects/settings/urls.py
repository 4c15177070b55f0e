"""No page is asked for."""

urlpatterns: list[object] = []
