"""Side-by-side benchmarks. Each runs as `python -m bench.NAME [--quick] [--json FILE]`."""
