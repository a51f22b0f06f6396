"""Which experts are in memory, where, and for how long: one pure state machine.

`machine.Machine` takes an event and the time, and returns effects; `planning` decides; the other
modules are the nouns that it decides about. `replay` runs it in simulated time.
"""
