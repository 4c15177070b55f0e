"""A project as people have it; ``CRAWL`` in the environment says its database and whether it is bridged.

Bridged is what README.md says, and nothing else: an app, a middleware, and the application of ``asgi.py``.
"""

import json
import os

_said = json.loads(os.environ["CRAWL"])
BRIDGED = _said["bridged"]

SECRET_KEY = "only for the crawl"
ROOT_URLCONF = "tests.use.crawl.urls"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
DATABASES = {"default": {**_said["database"], "ATOMIC_REQUESTS": _said["atomic_requests"]}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "tests.use.crawl.library",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
if BRIDGED:
    INSTALLED_APPS.append("django_bridge")
    MIDDLEWARE.insert(0, "django_bridge.middleware.ScopeMiddleware")
    # Fewer connections than clients; that a crowd on a slow machine is told to wait is not what is asked here.
    ASYNC_DB = {"default": {"pool_size": 4, "pool_timeout": 30.0, **_said["async_db"]}}
# The tables are made from the models at once: the contrib apps' migrations would take longer than the crawl.
MIGRATION_MODULES = dict.fromkeys(["admin", "auth", "contenttypes", "sessions"])
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [{"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"}]
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
LOGIN_REDIRECT_URL = "/books/"
LOGGING_CONFIG = None

_PAGE = "{% extends 'page.html' %}{% block content %}"
_PAGES = {
    "page.html": (
        "<title>{{ view.title }}</title>{{ user }}: {{ user.get_all_permissions|length }}"
        "{% for message in messages %}<p>{{ message }}</p>{% endfor %}"
        "{% block content %}{% endblock %}"
    ),
    # Related objects are loaded one by one here, as templates of real projects do.
    "library/book_list.html": (
        _PAGE + "{% for book in page_obj %}<li><a href='/books/{{ book.pk }}/'>{{ book }}</a> by"
        " {{ book.author.name }} at {{ book.publisher }} ({{ book.copies.count }} copies)"
        " {% for genre in book.genres.all %}{{ genre.label }} {% endfor %}"
        "{{ book.reviews.first.stars|default:'-' }}{% endfor %}"
        "{% if page_obj.has_next %}<a href='?page={{ page_obj.next_page_number }}'>next</a>{% endif %}"
        "{% endblock %}"
    ),
    "library/book_archive.html": (
        _PAGE + "{% for year in date_list %}<a href='/books/{{ year.year }}/in/'>{{ year.year }}</a>"
        "{% endfor %}{% for book in latest %}<li>{{ book.author }}: {{ book }}{% endfor %}{% endblock %}"
    ),
    "library/book_archive_year.html": (
        _PAGE + "{% for book in book_list %}<li>{{ book }} {{ book.details }} {{ book.price }}{% endfor %}"
        "{{ previous_year }} {{ next_year }}{% endblock %}"
    ),
    "library/book_detail.html": (
        _PAGE + "{{ book }} {{ book.author.biography }} {{ book.details }}"
        "{% for copy in book.copies.all %}<li>{{ copy.barcode }} at {{ copy.shelf.room }}"
        "{% for loan in copy.loans.all %}{{ loan.reader.name }}{% endfor %}{% endfor %}"
        "{% for note in book.notes.all %}{{ note.text }} on {{ note.about }}{% endfor %}{% endblock %}"
    ),
    "library/book_form.html": (
        _PAGE + "<form method=post>{% csrf_token %}{{ form.as_p }}<input type=submit></form>{% endblock %}"
    ),
    "library/book_confirm_delete.html": (
        _PAGE + "<form method=post>{% csrf_token %}{{ book }}<input type=submit></form>{% endblock %}"
    ),
    "registration/login.html": (
        _PAGE + "<form method=post>{% csrf_token %}{{ form.as_p }}"
        "<input type=hidden name=next value='{{ next }}'></form>{% endblock %}"
    ),
}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "loaders": [
                (
                    "django.template.loaders.cached.Loader",
                    [
                        ("django.template.loaders.locmem.Loader", _PAGES),
                        "django.template.loaders.app_directories.Loader",
                    ],
                )
            ],
        },
    }
]
