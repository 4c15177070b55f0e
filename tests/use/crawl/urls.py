from django.contrib import admin
from django.urls import include, path

from . import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("django.contrib.auth.urls")),
    path("books/", views.BookList.as_view()),
    path("books/add/", views.BookCreate.as_view()),
    path("books/<int:pk>/", views.BookDetail.as_view()),
    path("books/<int:pk>/change/", views.BookUpdate.as_view()),
    path("books/<int:pk>/delete/", views.BookDelete.as_view()),
    path("books/archive/", views.BookArchive.as_view()),
    path("books/<int:year>/in/", views.BookYear.as_view()),
    path("books/<int:pk>/rise/", views.rise),
    path("visits/", views.visits),
    path("broken/", views.broken),
    path("report/", views.report),
    path("shelves/", views.shelves),
]
