"""vLLM's engine in this process, stepped by a thread of ours: no child processes, half the memory
and half the start of vLLM's own arrangement, which a CPU does not need."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import queue
import secrets
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch
import tqdm
from vllm import EngineArgs, LLMEngine
from vllm.distributed import cleanup_dist_env_and_memory
from vllm.inputs import tokens_input

from capyra.engine.errors import ConfigError, InvalidValue, LoadFailed
from capyra.engine.native.memory import give_back
from capyra.engine.vllm import stages, worker
from capyra.engine.vllm.arguments import Plan
from capyra.engine.vllm.calls import Call
from capyra.engine.vllm.driver import Driver, Tally
from capyra.engine.vllm.wire import FAILURES, REFUSALS, params, piece
from capyra.engine.vllm.work import Work

Handover = Callable[[], None]

_set_num_threads = torch.set_num_threads
"""vLLM's worker puts a function in its place that does nothing."""
_IDLE_STEP_S = 0.002

# Its bars would start a thread that watches them and never ends.
tqdm.tqdm.monitor_interval = 0

_process = threading.Lock()
"""vLLM keeps groups and policies for the process as a whole: two engines would end each other."""


def load(
    plan: Plan,
    tally: Tally,
    readers: asyncio.AbstractEventLoop,
    on_stage: stages.OnStage,
    kind: type[InProcess] | None = None,
) -> InProcess:
    """Called on the thread that will run it. `LoadFailed` for whatever vLLM does not like."""
    if not _process.acquire(blocking=False):
        raise LoadFailed("this process already has a vLLM engine: one expert, one process")
    with stages.watched(on_stage):
        try:
            driver = (kind or InProcess)(plan, tally, readers)
        except BaseException as error:
            # What was built so far is in its frames.
            traceback.clear_frames(error.__traceback__)
            _clear()
            raise
        try:
            stages.report("ready", 1.0)
        except BaseException:
            driver.close()
            raise
    return driver


class InProcess(Driver):
    """`submit`, `abort` and `drop` leave a note in the inbox; the thread reads it between steps."""

    def __init__(self, plan: Plan, tally: Tally, readers: asyncio.AbstractEventLoop) -> None:
        self._tally = tally
        self._readers = readers
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._works: dict[str, Work] = {}
        self._calls: dict[str, tuple[Work, str]] = {}
        """Whose each call is, and vLLM's own name of it."""
        self._known: dict[str, Work] = {}
        """The same by vLLM's names, which its scheduler uses."""
        self._touched: dict[str, Work] = {}
        self._stopping = False
        stages.report("starting", 0.0)
        self._engine = _engine(plan)
        self._scheduler = self._engine.engine_core.engine_core.scheduler
        model = self._engine.model_executor.driver_worker.worker.get_model()
        self.weight_bytes = sum(each.nbytes for each in model.parameters())
        self.kv_bytes = plan.kv_bytes
        self.block = int(self._engine.vllm_config.cache_config.block_size)

    # --- on the asyncio loop ----------------------------------------------------------------

    def submit(self, work: Work) -> None:
        self._inbox.put(lambda: self._begin(work))

    def abort(self, name: str) -> None:
        self._inbox.put(lambda: self._cancel(name))

    def drop(self, name: str) -> None:
        self._inbox.put(lambda: self._forget(name))

    def stop(self) -> None:
        self._inbox.put(self._stop)

    # --- on the thread ----------------------------------------------------------------------

    def run(self) -> None:
        while self._read_inbox(wait=not self._engine.has_unfinished_requests()):
            if self._engine.has_unfinished_requests():
                self._step()
            self._hand_over()
        for name in list(self._works):
            self._cancel(name)
        self._hand_over()

    def close(self) -> None:
        engine = self._engine
        del self._engine, self._scheduler
        try:
            engine.renderer.shutdown()
            engine.engine_core.shutdown()
        finally:
            del engine
            self._tally.rest()
            _settle()

    def step(self) -> list[Any]:
        """One step of vLLM's."""
        outputs: list[Any] = self._engine.step()
        return outputs

    def _step(self) -> None:
        begin = time.monotonic()
        outputs = self.step()
        self._note_who_runs(begin, outputs)
        reading = any(not work.started for work in self._running())
        for output in outputs:
            work, _ = self._calls.get(output.request_id, (None, ""))
            if work is None or work.over:
                continue
            self._tally.take(work, piece(output.request_id, output))
            self._touched[work.name] = work
            if output.finished:
                self._lose(output.request_id)
            self._end_calls(work)
        self._count(time.monotonic() - begin, reading=reading)
        if not outputs and time.monotonic() - begin < _IDLE_STEP_S:
            # Grammars are compiled on a thread of vLLM's, and the engine would spin until then.
            time.sleep(_IDLE_STEP_S)

    def _end_calls(self, work: Work) -> None:
        ended, work.ended = work.ended, []
        self._abort_calls(ended)
        again, work.again = work.again, []
        self._add(work, again)

    def _note_who_runs(self, begin: float, outputs: list[Any]) -> None:
        """A step admits at its beginning; what ended in it is in its outputs alone."""
        names = [request.request_id for request in self._scheduler.running]
        found = [self._known.get(name) for name in names]
        found += [self._calls.get(output.request_id, (None, ""))[0] for output in outputs]
        for work in found:
            if work is not None and work.began_at is None:
                work.began_at = begin

    def _running(self) -> list[Work]:
        return [work for work in self._works.values() if work.began_at and not work.over]

    def _count(self, seconds: float, *, reading: bool) -> None:
        if reading:
            self._tally.prefill_s += seconds
        else:
            self._tally.decode_s += seconds
        self._tally.running = len(self._running())
        self._tally.kv_used = float(self._scheduler.get_kv_cache_usage())

    def _read_inbox(self, *, wait: bool) -> bool:
        """Whether there is anything to go on for."""
        if wait:
            self._inbox.get()()
        with contextlib.suppress(queue.Empty):
            while True:
                self._inbox.get_nowait()()
        return not self._stopping

    def _begin(self, work: Work) -> None:
        self._works[work.name] = work
        self._touched[work.name] = work
        self._add(work, work.calls())

    def _add(self, work: Work, calls: list[Call]) -> None:
        for call in calls:
            try:
                inner = self._engine.add_request(
                    call.id,
                    tokens_input(list(call.tokens), cache_salt=call.salt or None),
                    params(call),
                    priority=call.priority,
                )
                self._calls[call.id] = (work, inner)
                self._known[inner] = work
            except REFUSALS as error:
                asked = "structured_outputs" in call.sampling
                work.fail(
                    InvalidValue(
                        f"vLLM refuses the request: {error}",
                        param="response_format" if asked else None,
                    )
                )
                self._forget_calls(work)
                return

    def _cancel(self, name: str) -> None:
        work = self._works.get(name)
        if work is None or work.over:
            return
        self._forget_calls(work)
        work.cancel()
        self._touched[name] = work

    def _forget(self, name: str) -> None:
        work = self._works.pop(name, None)
        if work is not None:
            self._forget_calls(work)
            self._touched.pop(name, None)
            self._tally.running = len(self._running())

    def _forget_calls(self, work: Work) -> None:
        self._abort_calls([call for call, (owner, _) in self._calls.items() if owner is work])

    def _abort_calls(self, calls: list[str]) -> None:
        known = [call for call in calls if self._lose(call)]
        if known:
            self._engine.abort_request(known)

    def _lose(self, call: str) -> bool:
        """Whether that call was known until now."""
        _, inner = self._calls.pop(call, (None, ""))
        return self._known.pop(inner, None) is not None

    def _stop(self) -> None:
        self._stopping = True

    def _hand_over(self) -> None:
        """What is new for readers crosses in one batch."""
        found = [work.outlet.handover() for work in self._touched.values()]
        self._touched.clear()
        handovers = [each for each in found if each is not None]
        if handovers:
            self._readers.call_soon_threadsafe(_call_all, handovers)


def _call_all(handovers: list[Handover]) -> None:
    for handover in handovers:
        handover()


def _engine(plan: Plan) -> LLMEngine:
    if plan.cores:
        # Of this thread, and of those that it will start.
        os.sched_setaffinity(0, plan.cores)
    _set_num_threads(plan.threads or len(os.sched_getaffinity(0)))
    if plan.settings["enforce_eager"]:
        # Eager layers are not all: small helpers would compile when the first request needs them,
        # and every answer would wait for it (half a minute for the first log-probabilities).
        torch.compiler.set_stance("force_eager")
    # vLLM seeds the process: without another seed each load would say the same again.
    settings = {**plan.settings, "seed": secrets.randbits(31)}
    settings["worker_cls"] = f"{worker.__name__}.Worker"
    if plan.plain:
        settings["load_format"] = worker.LOAD_FORMAT
    try:
        return LLMEngine.from_engine_args(EngineArgs(**settings))
    except (*REFUSALS, TypeError) as error:
        traceback.clear_frames(error.__traceback__)
        raise ConfigError(f"vLLM refuses these settings: {error}") from error
    except FAILURES as error:
        traceback.clear_frames(error.__traceback__)
        raise LoadFailed(f"vLLM could not load the model: {error}") from error
    finally:
        torch.set_num_threads = _set_num_threads


def _clear() -> None:
    """After a load that failed: what a driver's `close` does, without an engine."""
    gc.unfreeze()
    try:
        cleanup_dist_env_and_memory()
    finally:
        _settle()


def _settle() -> None:
    """Give memory back, and let the process be taken again.

    What is left is modules, which later collections need not look through: they take most of a
    second otherwise, twice in every load. vLLM undoes this when its engine shuts down.
    """
    torch.compiler.set_stance("default")
    give_back()
    gc.freeze()
    _process.release()
