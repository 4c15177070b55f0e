"""What each way to the same rows costs: ``python -m benchmarks`` (docs/benchmarks.md)."""
