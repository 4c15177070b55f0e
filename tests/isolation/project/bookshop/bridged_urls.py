"""The bookshop's addresses, and those of the counter."""

from django.urls import include, path

from .urls import urlpatterns as stock

urlpatterns = [*stock, path("counter/", include("counter.urls"))]
