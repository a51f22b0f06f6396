"""Everything that makes the demo experts: data, training, scores (docs/decisions/0015)."""
