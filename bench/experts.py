"""What the demo experts know: held-out questions, answered greedily by the native engine.

A figure is the part of a field's questions that its own expert answers rightly. `matrix` in the
raw numbers has every expert on every field: panels live on their differing there.
"""

from __future__ import annotations

from pathlib import Path

from experts.recipes.evaluation import OWNERS
from experts.recipes.recipes import EXPERTS, FIELDS
from experts.recipes.sandbox import isolation
from experts.recipes.score import score_fields

from bench.harness import PeerMissing, Results, run

DEMO = Path(__file__).parents[1] / "experts" / "demo"


def measure(quick: bool) -> Results:
    results = Results()
    count = 100 if quick else 500
    matrix = {}
    for name in EXPERTS:
        if not (DEMO / name).is_dir():
            continue
        matrix[name], _ = score_fields(DEMO / name, FIELDS, count)
        for field, part in matrix[name].items():
            if OWNERS[field] == name:
                results.figures[field] = part
    if not matrix:
        raise PeerMissing(f"no expert stands in {DEMO}")
    results.raw = {"held_out": count, "sandbox": isolation(), "matrix": matrix}
    return results


if __name__ == "__main__":
    run(measure)
