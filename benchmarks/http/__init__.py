"""Requests per second and CPU per request over HTTP: stock Django beside the bridge, in one interleaved run."""
