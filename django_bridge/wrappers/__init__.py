"""Django's database wrappers on a scope's connection."""
