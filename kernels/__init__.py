"""Compiled kernels behind a C ABI, and their Python face. The engine runs without them."""
