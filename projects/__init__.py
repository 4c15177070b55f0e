"""Whether the models of real projects map completely: wagtail, Oscar, pretix, and Django's own apps.

Each project is installed as it is published into an environment of its own. ``make projects`` runs all of them.
"""
