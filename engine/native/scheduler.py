"""Who computes what in the next step. Pure: facts in, a `StepPlan` out; no tensors, no clock.

Every step decodes all running sequences. Prompts are computed in chunks in what is left of the
token budget; while something decodes, only every so many steps.

Nobody starves. Sequences have an order of strength, and the strongest that can run takes blocks
from all weaker ones, so it always gets on. A sequence that was passed over in `patience` steps is
stronger than all that were not, so everyone is the strongest some day. Who loses its blocks
computes them again later; what the prefix index kept makes that cheap.
"""

from __future__ import annotations

from capyra.engine.native.cache import Cache
from capyra.engine.native.fairness import Service
from capyra.engine.native.plan import Budget, Chunk, StepPlan
from capyra.engine.native.prefix import Hit
from capyra.engine.native.sequence import Sequence, State


class Scheduler:
    """Owns every sequence from `add` to `finish`. `span` is the longest image in tokens."""

    def __init__(self, cache: Cache, budget: Budget, *, span: int = 0) -> None:
        assert max(budget.tokens, span) <= cache.chunk, "the cache expects smaller chunks"
        assert span <= budget.tokens - budget.running, "an image would find no room"
        self.cache = cache
        self.budget = budget
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self.paused: list[Sequence] = []
        self.preemptions = 0
        self._service = Service()
        self._arrivals = 0
        self._steps_without_prompts = budget.decode_steps_between_admissions

    # --- facts in ---------------------------------------------------------------------------

    def add(self, sequence: Sequence) -> None:
        """A new sequence waits."""
        self._arrivals += 1
        sequence.arrival = self._arrivals
        self._enter(sequence)

    def fork(self, parent: Sequence, index: int) -> Sequence:
        """Another sequence that goes on from where the parent is. It shares the blocks."""
        child = parent.fork(index)
        self.cache.fork(parent, child)
        self._enter(child)
        return child

    def computed(self, chunk: Chunk) -> None:
        """The chunk's K/V is there."""
        self.cache.commit(chunk.sequence, chunk.count)
        self._service.used(chunk.sequence.tenant, chunk.count)

    def restart(self, sequence: Sequence, root: bytes) -> None:
        """It goes on in another namespace: its K/V is computed again from the beginning."""
        self.cache.release(sequence)
        sequence.root = root
        sequence.keys.clear()

    def finish(self, sequence: Sequence) -> None:
        """It is done, or nobody wants it any more; a no-op when it was finished before."""
        if sequence.state is State.FINISHED:
            return
        self._move(sequence, State.FINISHED)
        self._service.leave(sequence.tenant)
        self.cache.release(sequence)

    def pause(self, sequence: Sequence) -> None:
        """Its reader is slow: it keeps its blocks only until somebody else needs them."""
        if sequence.state in (State.RUNNING, State.WAITING):
            self._move(sequence, State.PAUSED)

    def resume(self, sequence: Sequence) -> None:
        """Its reader has caught up."""
        if sequence.state is State.PAUSED:
            self._move(sequence, State.WAITING)

    # --- decisions out ----------------------------------------------------------------------

    def plan(self) -> StepPlan:
        """The next step."""
        plan = StepPlan()
        self.running.sort(key=self._strength)
        self._decode(plan)
        if (
            not plan.chunks
            or self._steps_without_prompts >= self.budget.decode_steps_between_admissions
        ):
            self._prefill(plan, background=False)
            self._admit(plan)
            self._prefill(plan, background=True)
        self._steps_without_prompts = 0 if plan.prompt_tokens else self._steps_without_prompts + 1
        for sequence in self.waiting + self.running:
            if not plan.has(sequence):
                sequence.passed_over += 1
        return plan

    def _decode(self, plan: StepPlan) -> None:
        for sequence in list(self.running):
            if sequence.state is State.RUNNING and sequence.decodes:
                self._schedule(plan, sequence)

    def _prefill(self, plan: StepPlan, *, background: bool) -> None:
        for sequence in list(self.running):
            if (
                sequence.state is State.RUNNING
                and not sequence.decodes
                and sequence.background == background
                and not plan.has(sequence)
            ):
                self._schedule(plan, sequence)

    def _admit(self, plan: StepPlan) -> None:
        """From the head of the line and never past it: what does not fit keeps those behind it
        waiting until it does."""
        for sequence in sorted(self.waiting, key=self._place):
            if sequence.state is not State.WAITING:
                continue
            if not sequence.decodes and self._prompt_room(plan, sequence) <= 0:
                return
            if not self._take_slot(plan, sequence) or not self._take_blocks(plan, sequence):
                return
            self._move(sequence, State.RUNNING)
            self._schedule(plan, sequence)

    def _schedule(self, plan: StepPlan, sequence: Sequence) -> None:
        """Put as much of the sequence into the step as there is room for."""
        count = 1 if sequence.decodes else self._chunk(plan, sequence)
        if not count:
            return
        copies = self.cache.extend(sequence, count)
        while copies is None:
            if not self._free_some(plan, sequence, self._weaker(sequence)):
                return
            copies = self.cache.extend(sequence, count)
        plan.chunks.append(
            Chunk(sequence, sequence.computed, count, sequence.decodes, tuple(copies))
        )

    # --- room for tokens --------------------------------------------------------------------

    def _prompt_room(self, plan: StepPlan, sequence: Sequence) -> int:
        decoding = any(chunk.decode for chunk in plan.chunks)
        room = self.budget.chunk if decoding else self.budget.tokens - self.budget.running
        if sequence.logits_from is not None:
            room = min(room, self.budget.scored)
        return room - plan.prompt_tokens

    def _chunk(self, plan: StepPlan, sequence: Sequence) -> int:
        """How many of its tokens this step may compute. An image goes in whole, even if it is
        longer than a chunk should be, if it is the step's first prompt."""
        start = sequence.computed
        room = self._prompt_room(plan, sequence)
        image = sequence.image_at(start)
        if image is not None and (image.length <= room or not plan.prompt_tokens):
            room = max(room, image.length)
        end = min(len(sequence.tokens), start + max(0, room))
        return sequence.whole_images(end) - start

    # --- room for sequences and blocks ------------------------------------------------------

    def _take_slot(self, plan: StepPlan, sequence: Sequence) -> bool:
        """A place among the running ones, if need be that of a less urgent one; if that is in
        this step already, the place is free in the next."""
        if len(self.running) < self.budget.running:
            return True
        victim = max(self._less_urgent(sequence), key=self._strength, default=None)
        if victim is None:
            return False
        self._move(victim, State.WAITING)
        return not plan.has(victim)

    def _take_blocks(self, plan: StepPlan, sequence: Sequence) -> bool:
        """The longest prefix that is there, if blocks for the rest can be had."""
        if sequence.holds:
            return True
        while True:
            hit = self.cache.match(sequence)
            if self._comes_now(plan, sequence, hit):
                return False
            costs = self.cache.cost(sequence, hit)
            promised = self._promised()
            if all(
                cost + promise <= pool.available
                for cost, promise, pool in zip(costs, promised, self.cache.pools, strict=True)
            ):
                break
            if not self._free_some(plan, sequence, self._less_urgent(sequence)):
                return False
        self.cache.adopt(sequence, hit)
        if not sequence.admitted:
            sequence.admitted = True
            sequence.cached = sequence.computed
        return True

    def _comes_now(self, plan: StepPlan, sequence: Sequence, hit: Hit) -> bool:
        """Whether this very step computes the next block of the prefix for somebody else."""
        keys = sequence.keys_to(sequence.reusable_tokens)
        if not self.cache.reuse or hit.length >= len(keys):
            return False
        wanted = keys[hit.length]
        return any(
            wanted in chunk.sequence.keys_to(chunk.end)[hit.length : hit.length + 1]
            for chunk in plan.chunks
            if not chunk.decode
        )

    def _promised(self) -> list[int]:
        """Blocks of each group that the running ones will soon want: the rest of their prompts,
        and one to write on."""
        return [
            sum(
                max(1, self.cache.demand(group, len(one.tokens) + 1) - one.held(group))
                for one in self.running
            )
            for group in range(len(self.cache.groups))
        ]

    def _free_some(self, plan: StepPlan, sequence: Sequence, victims: list[Sequence]) -> bool:
        """Take blocks from a pin, from one that does not run, or from one of the victims."""
        if self.cache.yield_pin():
            return True
        resting = [one for one in self.waiting + self.paused if one.holds and one is not sequence]
        losers = resting or [one for one in victims if one.holds]
        if not losers:
            return False
        loser = max(losers, key=self._strength)
        plan.drop(loser)
        self.cache.release(loser)
        self.preemptions += 1
        if loser.state is State.RUNNING:
            self._move(loser, State.WAITING)
        return True

    def _weaker(self, sequence: Sequence) -> list[Sequence]:
        strength = self._strength(sequence)
        return [one for one in self.running if self._strength(one) > strength]

    def _less_urgent(self, sequence: Sequence) -> list[Sequence]:
        """Running ones that give way even to one that only waits."""
        return [
            one
            for one in self.running
            if not self._patient(one) and _urgency(one) > _urgency(sequence)
        ]

    # --- order ------------------------------------------------------------------------------

    def _patient(self, sequence: Sequence) -> bool:
        return sequence.passed_over >= self.budget.patience

    def _strength(self, sequence: Sequence) -> tuple[bool, bool, int, int, int]:
        """Strongest first: who keeps its blocks."""
        order = (sequence.arrival, sequence.index)
        if self._patient(sequence):
            return (False, False, 0, *order)
        return (True, *_urgency(sequence), *order)

    def _place(self, sequence: Sequence) -> tuple[bool, bool, int, bool, int, int, int]:
        """The place in line: urgent ones, those that had begun, the tenant that had least."""
        order = (sequence.arrival, sequence.index)
        if self._patient(sequence):
            return (False, False, 0, False, 0, *order)
        begun = sequence.admitted
        service = 0 if begun else self._service[sequence.tenant]
        return (True, *_urgency(sequence), not begun, service, *order)

    # --- lines ------------------------------------------------------------------------------

    def _enter(self, sequence: Sequence) -> None:
        self._service.enter(sequence.tenant)
        self.waiting.append(sequence)

    def _move(self, sequence: Sequence, state: State) -> None:
        lines = {
            State.WAITING: self.waiting,
            State.RUNNING: self.running,
            State.PAUSED: self.paused,
        }
        lines[sequence.state].remove(sequence)
        sequence.state = state
        if state in lines:
            lines[state].append(sequence)


def _urgency(sequence: Sequence) -> tuple[bool, int]:
    return (sequence.background, -sequence.priority)
