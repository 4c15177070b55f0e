from django.urls import path

from . import views

urlpatterns = [
    path("stock/<int:pk>/", views.plain(views.stock)),
    path("titles/", views.plain(views.titles)),
    path("titles.csv", views.plain(views.titles_csv)),
    path("census/", views.plain(views.census)),
    path("shelf/", views.plain(views.Shelf.as_view())),
    path("sell/<int:pk>/", views.plain(views.sell)),
    path("regret/<int:pk>/", views.plain(views.sell_and_regret)),
    path("forget/<int:pk>/", views.plain(views.forget)),
    path("lend/<int:pk>/", views.plain(views.lend)),
    path("try/", views.plain(views.try_again)),
    path("refuse/", views.plain(views.refuse)),
    path("explode/", views.plain(views.explode)),
    path("checkout/", views.plain(views.checkout)),
    path("decorated/<int:pk>/", views.plain(views.decorated)),
    path("per-request/<str:kind>/", views.per_request),
]
