"""The vLLM side of benchmarks/rollout.py, run by the python of an environment that has vLLM.

    PYTHON benchmarks/rollout_vllm.py MODEL_DIR fp32|bf16 SLOTS THREADS

Reads one JSON line per run (prompts as token ids, wanted lengths) and answers with the seconds that it took.
"""

import json
import os
import sys
import time


def main() -> None:
    folder, dtype, slots, threads = sys.argv[1:5]
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"0-{int(threads) - 1}")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    os.environ.setdefault("OMP_NUM_THREADS", threads)
    from vllm import LLM, SamplingParams

    engine = LLM(
        folder,
        dtype="float32" if dtype == "fp32" else "bfloat16",
        max_num_seqs=int(slots),
        max_model_len=1024,
        enable_prefix_caching=False,
        seed=0,
    )
    for line in sys.stdin:
        asked = json.loads(line)
        prompts = [{"prompt_token_ids": prompt} for prompt in asked["prompts"]]
        params = [SamplingParams(temperature=1.0, max_tokens=n, ignore_eos=True) for n in asked["wanted"]]
        start = time.perf_counter()
        engine.generate(prompts, params, use_tqdm=False)
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
