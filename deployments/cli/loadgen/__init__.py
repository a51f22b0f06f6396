"""A load generator for any OpenAI-compatible server: plan, drive, figures.

It speaks HTTP/1.1 itself: times are taken where bytes arrive, not where a task wakes, and one
core of it outruns the servers that it measures (`ceiling` says by how much).
"""
