"""vLLM as it arranges itself, with processes of its own: for GPUs, and where devices share a
model."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import Callable
from typing import Any

from vllm import AsyncEngineArgs
from vllm.inputs import tokens_input
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from capyra.engine.errors import ConfigError, EngineFault, InvalidValue, LoadFailed
from capyra.engine.native.memory import give_back
from capyra.engine.vllm import stages
from capyra.engine.vllm.arguments import Plan
from capyra.engine.vllm.calls import Call
from capyra.engine.vllm.driver import Driver, Tally
from capyra.engine.vllm.wire import FAILURES, REFUSALS, params, piece
from capyra.engine.vllm.work import Work

_environment = threading.Lock()
"""Children inherit the environment: one load at a time writes it."""


def load(
    plan: Plan, tally: Tally, readers: asyncio.AbstractEventLoop, on_stage: stages.OnStage
) -> Processes:
    """Called on the thread that will run it. Only the beginning and the end are told: what is
    between happens elsewhere."""
    with stages.watched(on_stage):
        stages.report("starting", 0.0)
        driver = Processes(plan, tally, readers)
        try:
            stages.report("ready", 1.0)
        except BaseException:
            driver.close()
            raise
    return driver


class Processes(Driver):
    """Everything but the entry points happens on a loop of its own, on the thread that runs it."""

    def __init__(self, plan: Plan, tally: Tally, readers: asyncio.AbstractEventLoop) -> None:
        self._tally = tally
        self._readers = readers
        self._loop = asyncio.new_event_loop()
        self._works: dict[str, Work] = {}
        self._tasks: dict[str, set[asyncio.Task[None]]] = {}
        self._over: asyncio.Future[None] = self._loop.create_future()
        try:
            self._engine = _engine(plan)
        except BaseException:
            self._loop.close()
            raise
        # What a process of vLLM's holds is not this one's: its memory is a GPU's.
        self.weight_bytes = 0
        self.kv_bytes = plan.kv_bytes
        self.block = int(self._engine.vllm_config.cache_config.block_size)

    # --- on the readers' loop ---------------------------------------------------------------

    def submit(self, work: Work) -> None:
        self._loop.call_soon_threadsafe(self._begin, work)

    def abort(self, name: str) -> None:
        self._loop.call_soon_threadsafe(self._cancel, name)

    def drop(self, name: str) -> None:
        self._loop.call_soon_threadsafe(self._forget, name)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end, None)

    # --- on the thread ----------------------------------------------------------------------

    def run(self) -> None:
        self._loop.run_until_complete(self._serve())

    def close(self) -> None:
        try:
            self._engine.shutdown()
        finally:
            del self._engine
            # What its tasks still have to do at their end.
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()
            self._tally.rest()
            give_back()

    async def _serve(self) -> None:
        try:
            await self._over
        finally:
            for name in list(self._works):
                self._cancel(name)
            left = [task for tasks in self._tasks.values() for task in tasks]
            if left:
                await asyncio.wait(left)

    def _begin(self, work: Work) -> None:
        self._works[work.name] = work
        self._tasks[work.name] = set()
        self._count()
        self._follow(work, work.calls())

    def _follow(self, work: Work, calls: list[Call]) -> None:
        for call in calls:
            task = self._loop.create_task(self._read(work, call), name=call.id)
            tasks = self._tasks[work.name]
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _read(self, work: Work, call: Call) -> None:
        """One call to its end. Leaving the iterator ends it in vLLM too."""
        prompt = tokens_input(list(call.tokens), cache_salt=call.salt or None)
        try:
            stream = self._engine.generate(prompt, params(call), call.id, priority=call.priority)
            async for output in stream:
                if work.began_at is None:
                    # vLLM does not say: its own queue counts as reading the prompt.
                    work.began_at = work.submitted_at
                self._tally.take(work, piece(call.id, output))
                again, work.again = work.again, []
                self._follow(work, again)
                self._hand_over(work)
                if work.over or call.id in work.ended:
                    await stream.aclose()
                    break
        except REFUSALS as error:
            asked = "structured_outputs" in call.sampling
            work.fail(
                InvalidValue(
                    f"vLLM refuses the request: {error}",
                    param="response_format" if asked else None,
                )
            )
            self._hand_over(work)
        except EngineDeadError as error:
            self._end(EngineFault(f"a process of vLLM's has died: {error}"))
        finally:
            self._count()

    def _cancel(self, name: str) -> None:
        work = self._works.get(name)
        if work is not None and not work.over:
            self._leave(name)
            work.cancel()
            self._hand_over(work)

    def _forget(self, name: str) -> None:
        if self._works.pop(name, None) is not None:
            self._leave(name)
            del self._tasks[name]
            self._count()

    def _leave(self, name: str) -> None:
        for task in tuple(self._tasks[name]):
            task.cancel()

    def _end(self, error: Exception | None) -> None:
        if not self._over.done():
            if error is None:
                self._over.set_result(None)
            else:
                self._over.set_exception(error)

    def _count(self) -> None:
        self._tally.running = sum(1 for work in self._works.values() if not work.over)

    def _hand_over(self, work: Work) -> None:
        handover: Callable[[], None] | None = work.outlet.handover()
        if handover is not None:
            self._readers.call_soon_threadsafe(handover)


def _engine(plan: Plan) -> Any:
    settings = {**plan.settings, "seed": secrets.randbits(31)}
    with _environment:
        if plan.threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(plan.threads)
        try:
            return AsyncLLM.from_engine_args(AsyncEngineArgs(**settings))
        except (*REFUSALS, TypeError) as error:
            raise ConfigError(f"vLLM refuses these settings: {error}") from error
        except FAILURES as error:
            raise LoadFailed(f"vLLM could not load the model: {error}") from error
