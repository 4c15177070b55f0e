"""An app whose mapped classes are typed."""
