"""How busy `corpus caption` keeps a server, on this machine.

    python benchmarks/bench_captions.py [--samples 256] [--shards 2] [--at-once 16] [--mean-s 0.25]

The server takes, for each answer, a time drawn evenly between a half and one and a half of the mean, as a model does whose captions have
many lengths. Two prompts are asked about each image, the second one after the first is answered.

    busy       the time that the server's slots are taken, over slots times the clock from the first request to the last answer; 1 is ideal
    processor  milliseconds of this process's processor time for a request: hashing, encoding, HTTP, the cache, writing
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import random
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tips_bench.cards import load_card
from tips_bench.corpus.caption import Wish, caption
from tips_bench.corpus.captioners.base import Pace
from tips_bench.corpus.store import Sample, write_shard

SIDE = 384  # pixels
ANSWER = json.dumps({"choices": [{"message": {"content": "A red sofa beside a lamp."}, "finish_reason": "stop"}]}).encode()


def serve(out: Connection, slots: int, mean_s: float) -> None:
    """Answer until something comes back, then say how busy the slots were."""
    taken, draw, spans = threading.Semaphore(slots), random.Random(0), []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def do_POST(self) -> None:
            begin = time.monotonic()
            self.rfile.read(int(self.headers["Content-Length"]))
            with taken:
                wait_s = draw.uniform(0.5 * mean_s, 1.5 * mean_s)
                time.sleep(wait_s)
            self.send_response(200)
            self.send_header("Content-Length", str(len(ANSWER)))
            self.end_headers()
            self.wfile.write(ANSWER)
            spans.append((begin, wait_s, time.monotonic()))

    class Http(ThreadingHTTPServer):
        request_queue_size = 128

    http = Http(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    out.send(http.server_port)
    out.recv()
    clock_s = max(end for *_, end in spans) - min(begin for begin, *_ in spans)
    out.send((sum(wait_s for _, wait_s, _ in spans) / (slots * clock_s), len(spans)))


def write_corpus(folder: Path, shards: int, samples: int) -> None:
    """Photographs in size, if not in what they show."""
    rng = np.random.default_rng(0)
    for shard in range(shards):
        made = []
        for number in range(samples):
            out = io.BytesIO()
            small = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
            small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(out, "jpeg")
            made.append(Sample(f"{number:06d}", out.getvalue(), "jpg", {"web": f"sofa {number}"}))
        write_shard(folder / f"{shard:05d}.tar", made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=256, help="of a shard")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--mean-s", type=float, default=0.25)
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, options.at_once, options.mean_s), daemon=True)
    server.start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder / "raw", options.shards, options.samples)
        wish = Wish(f"openai:http://127.0.0.1:{ours.recv()}/v1#stub", (load_card("prompt", "short"), load_card("prompt", "long")))
        before = time.process_time()
        caption(folder / "raw", folder / "out", wish, cache=folder / "cache", pace=Pace(at_once=options.at_once))
        used_s = time.process_time() - before
    ours.send("end")
    busy, requests = ours.recv()
    print(f"{'requests':>9}{'at once':>9}{'busy':>7}{'processor':>11}")
    print(f"{requests:>9}{options.at_once:>9}{busy:>7.2f}{1000 * used_s / requests:>8.1f} ms")


if __name__ == "__main__":
    main()
