"""What an operator can set for vLLM, by vLLM's own names.

What other settings of the expert decide (`context`, `kv`, `queue`, `resources`, `speculation`) is
not here: it would have two places.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from capyra.engine.config import Settings

KvType = Literal["auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_per_token_head",
                 "int8_per_token_head", "int4_per_token_head", "nvfp4", "turboquant_k8v4",
                 "turboquant_4bit_nc", "turboquant_k3v4_nc", "turboquant_3bit_nc"]  # fmt: skip


class VllmOptions(Settings):
    """Settings that vLLM gets as they are, and three of ours."""

    enforce_eager: bool | None = Field(
        default=None,
        description="Whether layers run one by one instead of compiled; by default yes on a CPU, "
        "where compiling takes most of a minute, and no on a GPU",
    )
    quantization: str | None = Field(
        default=None, description="How the weights are stored; by default what the model says"
    )
    kv_cache_dtype: KvType = Field(
        default="auto",
        description="What keys and values are stored in, where `kv.type` knows no name for it",
    )
    block_size: Literal[16, 32, 64, 128, 256] | None = Field(
        default=None, description="Tokens of a K/V block; by default as vLLM finds best"
    )
    enable_prefix_caching: bool = Field(
        default=True, description="Find the K/V of prompts that begin alike, instead of computing"
    )
    max_num_batched_tokens: int | None = Field(
        default=None, ge=1, le=2**20, description="Most tokens of a step; by default vLLM's choice"
    )
    trust_remote_code: bool = Field(
        default=False, description="Run the Python that lies in the model's directory"
    )
    load_format: Literal["auto", "safetensors", "pt", "dummy"] = Field(
        default="auto", description="What kind of files holds the weights"
    )
    tensor_parallel_size: int = Field(
        default=1, ge=1, le=64, description="Devices that share each layer"
    )
    pipeline_parallel_size: int = Field(
        default=1, ge=1, le=64, description="Groups of devices that share the layers"
    )
    gpu_memory_utilization: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Part of a GPU's memory that vLLM takes, where `kv.memory` is not set",
    )
    attention_backend: str | None = Field(
        default=None, description="Attention kernels by name; by default vLLM's choice"
    )
    processes: bool | None = Field(
        default=None,
        description="Whether vLLM has processes of its own; by default only with GPUs or when "
        "devices share the model",
    )
    cores: str | None = Field(
        default=None,
        pattern=r"^\d+(-\d+)?(,\d+(-\d+)?)*$",
        description="Cores that its threads are bound to, such as `0-3,8`; by default none",
    )
    tool_format: str | None = Field(
        default=None,
        description="How the model writes tool calls; by default what its template shows",
    )
