"""Pure decisions: residency, routing, consensus. Knows no Ray, no HTTP, no torch."""
