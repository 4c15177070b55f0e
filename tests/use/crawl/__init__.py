"""A project with an admin of ten models, what its clients do there, and how two crawls are compared."""
