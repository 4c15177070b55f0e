"""Django's database wrappers on a scope's connection, and what their modules need to be imported."""
