"""How Sphinx builds these pages: `make docs`."""

from importlib.metadata import version as distribution_version

project = "django-asyncdb"
author = "django-asyncdb contributors"
copyright = "2026, django-asyncdb contributors"
release = version = distribution_version("django-asyncdb")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "django-asyncdb"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nitpicky = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"
