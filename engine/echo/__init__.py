"""The deterministic engine that answers with its prompt."""
