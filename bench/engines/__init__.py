"""What `bench.engine` measures: drivers, one for each engine, and the side that asks them.

A driver runs in its engine's own environment and imports nothing of Capyra (but the native one).
"""
