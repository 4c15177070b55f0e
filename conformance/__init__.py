"""Django's own test suite, run twice on one server: as Django is, and with its queries on the event loop.

``python -m conformance`` takes the tests out of the source distribution of the Django that is installed, runs them
in both ways on each database family, and compares test by test. ``apps.toml`` says which apps, ``excused.toml`` which
tests may differ, and why.
"""
