"""Everything that needs Django alone."""

from django.contrib import admin
from django.urls import path

from catalogue import views as catalogue
from orders import views as orders

urlpatterns = [
    path("admin/", admin.site.urls),
    path("books/", catalogue.book_list),
    path("books/<int:pk>/", catalogue.book_detail),
    path("books.csv", catalogue.export),
    path("async/books/", catalogue.abook_list),
    path("async/books/add/", catalogue.aadd_book),
    path("async/books/<int:pk>/", catalogue.abook_detail),
    path("async/books.csv", catalogue.aexport),
    path("async/authors/<int:pk>/", catalogue.author_shelf),
    path("checkout/", orders.checkout),
    path("orders/<str:reference>/", orders.order_detail),
    path("async/checkout/", orders.acheckout),
    path("async/orders/<str:reference>/", orders.aorder_detail),
    path("async/orders/<str:reference>/lines/", orders.aadd_line),
    path("async/note/<str:reference>/", orders.anote),
]
