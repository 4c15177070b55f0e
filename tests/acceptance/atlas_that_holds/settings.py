"""The atlas with one wrong view more, which the tests must find out."""

from atlas.settings import *  # noqa: F403

ROOT_URLCONF = "tests.acceptance.atlas_that_holds.urls"
