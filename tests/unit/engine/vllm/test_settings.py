"""From the experts file to vLLM's settings, without vLLM."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from capyra.deployments.experts_file import ExpertsFileError, load
from capyra.engine.config import ExpertConfig
from capyra.engine.errors import ConfigError, ModelError
from capyra.engine.registry import EngineSpec, create
from capyra.engine.vllm import arguments, package
from capyra.engine.vllm.options import VllmOptions
from capyra.engine.vllm.shape import Shape
from engines import MAKERS

SHAPE = Shape(context=4096, vocabulary=1000, layers=4, kv_heads=2, head_dim=64, dtype="bfloat16")


def plan(
    options: dict[str, Any] | None = None, machine: str = "x86_64", **config: Any
) -> arguments.Plan:
    settings = ExpertConfig(engine="vllm", **config)
    found = VllmOptions.model_validate(options or {})
    return arguments.plan(Path("model"), settings, found, SHAPE, machine)


def test_a_cpu_always_gets_its_memory_and_runs_eager_here() -> None:
    found = plan(context=512, queue={"running": 4}, resources={"threads": 3})
    assert found.settings["kv_cache_memory_bytes"] == 2 * 4 * 2 * 64 * 2 * 128 * (4 + 4 + 1)
    assert found.settings["max_model_len"] == found.context == 512
    assert found.settings["max_num_seqs"] == 4
    assert found.settings["enforce_eager"] is True
    assert (found.threads, found.processes, found.plain) == (3, False, True)
    assert plan(kv={"memory": "1GiB"}).kv_bytes == 2**30
    assert plan(context=10**6).context == SHAPE.context, "never more than the model's own"


def test_a_gpu_has_processes_and_its_own_memory() -> None:
    found = plan(resources={"gpus": 1})
    assert found.processes
    assert "kv_cache_memory_bytes" not in found.settings
    assert found.settings["enforce_eager"] is False


def test_devices_that_share_a_model_need_processes() -> None:
    assert plan({"tensor_parallel_size": 2}).processes
    with pytest.raises(ConfigError, match="processes"):
        plan({"tensor_parallel_size": 2, "processes": False})


@pytest.mark.parametrize(
    ("wanted", "machine", "refused"),
    [
        ("auto", "aarch64", False),
        ("bfloat16", "aarch64", False),
        ("fp8", "x86_64", False),
        ("fp8", "aarch64", True),
        ("int8_per_token_head", "x86_64", True),
        ("turboquant_4bit_nc", "x86_64", True),
        ("float16", "x86_64", True),
    ],
)
def test_types_of_keys_and_values_that_a_cpu_gets_wrong(
    wanted: str, machine: str, refused: bool
) -> None:
    options = {"kv_cache_dtype": wanted}
    assert plan(options, machine, resources={"gpus": 1}).settings["kv_cache_dtype"]
    if refused:
        with pytest.raises(ConfigError, match=wanted):
            plan(options, machine)
    else:
        assert plan(options, machine).settings["kv_cache_dtype"] in (wanted, "auto")


def test_one_place_for_the_type_of_keys_and_values() -> None:
    with pytest.raises(ConfigError, match="remove one"):
        plan({"kv_cache_dtype": "fp8"}, kv={"type": "bfloat16"})
    with pytest.raises(ConfigError, match="float32"):
        plan(kv={"type": "float32"})
    assert plan(kv={"type": "float32"}, dtype="float32").settings["kv_cache_dtype"] == "auto"


def test_speculation_in_its_words() -> None:
    assert "speculative_config" not in plan().settings
    ngram = plan(speculation={"method": "ngram", "tokens": 3}).settings["speculative_config"]
    assert (ngram["method"], ngram["num_speculative_tokens"]) == ("ngram", 3)
    draft = plan(speculation={"method": "draft", "draft": "small"}).settings["speculative_config"]
    assert draft["model"] == "small"


def test_cores() -> None:
    assert plan({"cores": "0-2,5"}).cores == (0, 1, 2, 5)
    assert plan().cores == ()


def test_an_unknown_setting_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    path = tmp_path / "experts.yaml"
    path.write_text(
        "experts:\n  large:\n    engine: vllm\n    model: .\n    options:\n"
        "      enforce_eger: true\n"
    )
    with pytest.raises(ExpertsFileError, match="did you mean `enforce_eager`"):
        load(path)


def nothing(name: str) -> str:
    raise PackageNotFoundError(name)


def only(package_name: str, version: str) -> Any:
    return lambda name: version if name == package_name else nothing(name)


def test_which_package_is_there() -> None:
    with pytest.raises(ConfigError, match="make install-vllm") as missing:
        package.require(nothing)
    assert "\n" not in missing.value.message
    for name in package.NAMES:
        assert package.require(only(name, "0.32.4+cpu")) == "0.32.4+cpu"
        for other in ("0.31.2", "0.33.0", "1.0", "unknown"):
            with pytest.raises(ConfigError, match=rf"{name} {other}"):
                package.require(only(name, other))


def test_a_models_shape(tmp_path: Path) -> None:
    fields = {
        "max_position_embeddings": 64,
        "vocab_size": 10,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "hidden_size": 128,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**fields, "torch_dtype": "float16"}))
    assert Shape.of(tmp_path) == Shape(64, 10, 3, 4, 32, "float16")
    path.write_text(json.dumps({"text_config": {**fields, "head_dim": 16}, "dtype": "bfloat16"}))
    assert Shape.of(tmp_path) == Shape(64, 10, 3, 4, 16, "bfloat16")
    path.write_text("{}")
    with pytest.raises(ModelError, match="num_attention_heads"):
        Shape.of(tmp_path)


def test_an_expert_without_vllm_is_told_what_to_install(tmp_path: Path) -> None:
    if not MAKERS["vllm"].missing:
        pytest.skip("vllm is installed")
    spec = EngineSpec("large", ExpertConfig(engine="vllm"), tmp_path)
    with pytest.raises(ConfigError, match="make install-vllm"):
        create(spec)
