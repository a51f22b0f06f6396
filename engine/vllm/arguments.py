"""From an expert's settings to vLLM's; pure, and without vLLM."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capyra.engine.config import ExpertConfig
from capyra.engine.errors import ConfigError
from capyra.engine.vllm.options import VllmOptions
from capyra.engine.vllm.shape import Shape

_FP8 = ("fp8", "fp8_e4m3", "fp8_e5m2")
_X86 = ("x86_64", "AMD64")
MOST_LOGPROBS = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What a driver starts with. `settings` are vLLM's `EngineArgs`, as far as they are ours."""

    settings: dict[str, Any]
    threads: int | None
    cores: tuple[int, ...]
    kv_bytes: int
    context: int
    processes: bool

    @property
    def plain(self) -> bool:
        """Whether weights are ordinary files, which our own loader reads."""
        return bool(self.settings["load_format"] == "auto")


def plan(
    model: Path,
    config: ExpertConfig,
    options: VllmOptions,
    shape: Shape,
    machine: str = platform.machine(),
) -> Plan:
    """`ConfigError` for settings that vLLM would take and get wrong, or that contradict."""
    cpu = config.resources.gpus == 0
    dtype = shape.dtype if config.dtype == "auto" else config.dtype
    kv_dtype = _kv_dtype(config, options, dtype, cpu, machine)
    context = min(shape.context, config.context or shape.context)
    running = config.queue.running
    kv_bytes = config.kv.memory or shape.kv_bytes(context, running, dtype, options.block_size)
    if not cpu and config.kv.memory is None:
        kv_bytes = 0
    together = options.tensor_parallel_size * options.pipeline_parallel_size > 1
    settings: dict[str, Any] = {
        "model": str(model),
        "dtype": dtype,
        "max_model_len": context,
        "max_num_seqs": running,
        "kv_cache_dtype": kv_dtype,
        # Without it a CPU engine takes nearly all memory of the node.
        "kv_cache_memory_bytes": kv_bytes or None,
        "enforce_eager": cpu if options.enforce_eager is None else options.enforce_eager,
        "scheduling_policy": "priority",
        "max_logprobs": MOST_LOGPROBS,
        # vLLM's default backend changes with the request; this one knows all our formats.
        "structured_outputs_config": {"backend": "guidance"},
        # What a file beside the weights says would overrule what a request leaves out.
        "generation_config": "vllm",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "enable_chunked_prefill": True,
        **_same(options),
        **_speculation(config),
    }
    processes = options.processes
    if processes is None:
        processes = not cpu or together
    if together and not processes:
        raise ConfigError("`processes: false` cannot be: devices that share a model need processes")
    return Plan(
        settings={name: value for name, value in settings.items() if value is not None},
        threads=config.resources.threads,
        cores=_cores(options.cores),
        kv_bytes=kv_bytes,
        context=context,
        processes=processes,
    )


def _same(options: VllmOptions) -> dict[str, Any]:
    """What vLLM gets under the same name."""
    ours = {"kv_cache_dtype", "enforce_eager", "processes", "cores", "tool_format"}
    return {
        name: value
        for name, value in options.model_dump().items()
        if name not in ours and value is not None
    }


def _kv_dtype(
    config: ExpertConfig, options: VllmOptions, dtype: str, cpu: bool, machine: str
) -> str:
    """A CPU takes all types, computes with few, and is silently wrong with some."""
    wanted: str = options.kv_cache_dtype
    if config.kv.type != "auto":
        if wanted != "auto":
            raise ConfigError(
                f"`kv.type` is {config.kv.type} and `options.kv_cache_dtype` {wanted}: remove one"
            )
        wanted = config.kv.type
    if wanted in ("auto", dtype):
        return "auto"
    if wanted == "float32":
        raise ConfigError(f"vLLM keeps no K/V in float32 for a model computed in {dtype}")
    fine = _FP8 if machine in _X86 else ()
    if cpu and wanted not in fine:
        raise ConfigError(
            f"K/V in {wanted} is wrong or missing on this CPU, though vLLM takes it; what "
            f"works here is {', '.join(('auto', *fine))}"
        )
    return wanted


def _speculation(config: ExpertConfig) -> dict[str, Any]:
    """One block of the experts file, in vLLM's words."""
    guess = config.speculation
    if guess.method == "off":
        return {}
    if guess.method == "ngram":
        found = {"method": "ngram", "prompt_lookup_max": 4, "prompt_lookup_min": 2}
    else:
        found = {"method": "draft_model", "model": guess.draft}
    return {"speculative_config": {**found, "num_speculative_tokens": guess.tokens}}


def _cores(text: str | None) -> tuple[int, ...]:
    found: list[int] = []
    for part in (text or "").split(","):
        if part:
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
    return tuple(found)
