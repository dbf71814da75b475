"""The same prompts through llama.cpp's server with parallel slots.

    python llama_cpp_views.py MODEL.gguf PROMPTS.json NEW_TOKENS THREADS SLOTS

Prints new tokens and seconds; loading and one warm-up prompt do not count.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import xllamacpp as llama


def main() -> None:
    """Run and print one line of JSON."""
    model, prompts_file = sys.argv[1], sys.argv[2]
    new_tokens, threads, slots = (int(text) for text in sys.argv[3:6])
    prompts = json.loads(Path(prompts_file).read_text(encoding="utf-8"))
    params = llama.CommonParams()
    params.model.path = model
    params.n_parallel = slots
    params.n_ctx = slots * 1024
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_gpu_layers = 0
    server = llama.Server(params)

    def ask(prompt: str) -> int:
        answer = server.handle_completions(
            {
                "prompt": prompt,
                "n_predict": new_tokens,
                "temperature": 0.0,
                "ignore_eos": True,
                "cache_prompt": True,
            }
        )
        return int(answer["usage"]["completion_tokens"])

    ask(prompts[0])
    began = time.perf_counter()
    with ThreadPoolExecutor(slots) as pool:
        made = sum(pool.map(ask, prompts))
    print(json.dumps({"new_tokens": made, "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
