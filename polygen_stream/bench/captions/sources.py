"""`polygen-stream bench captions`: captions per second of the caption sources, side by side.

Every source has a process of its own; at each concurrency they take turns, round by round, with the same tasks, so
that whatever else the machine does falls on all of them alike. The openai source is measured on `vllm serve` here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from multiprocessing import get_context
from typing import Any

import psutil

from polygen_stream.bench.captions.vllm_server import vllm_server
from polygen_stream.bench.ring.benchmark import machine
from polygen_stream.bench.statistics import summarise
from polygen_stream.capacity.measured_rates import CaptionRate, MeasuredRates
from polygen_stream.captions.base import Caption, CaptionSource, Dropped
from polygen_stream.captions.sources import caption_source
from polygen_stream.config import RunConfig
from polygen_stream.schedule.ledger import Ledger

MIB = 2**20
REFERENCE = "transformers"


def bench_captions(
    config: RunConfig,
    sources: Sequence[str],
    concurrencies: Sequence[int],
    tasks: int,
    rounds: int,
    negatives: bool,
    threads: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measures every source at every concurrency.

    Args:
        config: Models, bank and sampling; its captions.source and captions.batch are replaced.
        sources: Caption sources to compare.
        concurrencies: Numbers of replies that are written at once (captions.batch).
        tasks: Tasks of a round. A warm-up round with as many tasks as are in flight comes first.
        rounds: Measured rounds.
        negatives: Request a hard negative of every caption too.
        threads: Compute threads of a model.
        say: Called with a line of progress.

    Returns:
        {"machine", "captions": the config's section, "tasks", "negatives", "threads", "results": [one row per source
        and concurrency, see `_row`], "rates": each source's best (see capacity/measured_rates.py)}; ready for JSON.
    """
    # Read by the libraries of the processes that are started below.
    os.environ |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    found = {
        "machine": machine(),
        "captions": config.captions.model_dump(mode="json"),
        "tasks": tasks,
        "negatives": negatives,
        "threads": threads,
        "results": [],
    }
    for concurrency in concurrencies:
        with ExitStack() as stack:
            processes = {}
            for source in sources:
                say(f"{concurrency} in flight: starting {source}")
                changed = {"source": source, "batch": concurrency, "backlog": max(concurrency, config.captions.backlog)}
                if source == "openai":
                    changed |= stack.enter_context(_served(config, concurrency))
                captions = config.captions.model_copy(update=changed)
                processes[source] = stack.enter_context(
                    _SourceProcess(config.model_copy(update={"captions": captions}))
                )
            say(f"{concurrency} in flight: {rounds} rounds of {tasks} tasks, {len(processes)} in turn")
            answers = {source: [] for source in processes}
            for process in processes.values():
                process.round(0, concurrency, negatives)
            for number in range(rounds):
                for source, process in processes.items():
                    answers[source].append(process.round(concurrency + number * tasks, tasks, negatives))
                    say(f"{source}, round {number + 1}: {answers[source][-1]}")
            for source, process in processes.items():
                found["results"].append({"source": source, "in_flight": concurrency, **_row(process, answers[source])})
    found["machine"]["load_at_end"] = os.getloadavg()[0]
    return found | _rates(config, found["results"]).as_json()


def _rates(config: RunConfig, rows: Sequence[dict[str, Any]]) -> MeasuredRates:
    """Return each source's best rate over the concurrencies."""
    best: dict[str, float] = {}
    for row in rows:
        best[row["source"]] = max(row["captions_per_s"]["median"], best.get(row["source"], 0.0))
    models = {"writer": config.captions.writer, "editor": config.captions.editor}
    return MeasuredRates(
        captions={source: CaptionRate(captions_per_s=rate, **models) for source, rate in best.items() if rate > 0}
    )


def _row(process: _SourceProcess, answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rates over the rounds (median, spread, n); of all replies the accepted share; of all tasks those dropped.

    Per processor second: of the source's processes, to which a server does not belong.
    """
    accepted, refused = (sum(answer[name] for answer in answers) for name in ("accepted", "refused"))
    captions = [answer["captions"] for answer in answers]
    return {
        "start_s": process.start_s,
        "memory_mib": process.memory_mib,
        "captions_per_s": summarise([n / answer["seconds"] for n, answer in zip(captions, answers, strict=True)]),
        "captions_per_cpu_s": summarise(
            [n / answer["cpu_seconds"] for n, answer in zip(captions, answers, strict=True)]
        ),
        "tokens_per_s": summarise([answer["tokens"] / answer["seconds"] for answer in answers]),
        "accepted": accepted / (accepted + refused),
        "dropped": sum(answer["dropped"] for answer in answers) / sum(answer["tasks"] for answer in answers),
    }


@contextmanager
def _served(config: RunConfig, concurrency: int) -> Iterator[dict[str, str]]:
    """Servers of the config's models; the keys with which the openai source finds them."""
    captions = config.captions
    with ExitStack() as stack:
        writer = stack.enter_context(vllm_server(captions.writer, captions.dtype, concurrency))
        editor = writer
        if captions.editor != captions.writer:
            editor = stack.enter_context(vllm_server(captions.editor, captions.dtype, concurrency))
        yield {"endpoint": writer, "editor_endpoint": editor}


class _SourceProcess:
    """A source in a process of its own."""

    def __init__(self, config: RunConfig) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        try:
            self.start_s, self.memory_mib = self._pool.submit(_open, config).result()
        except BaseException:
            self._pool.shutdown()
            raise

    def __enter__(self) -> _SourceProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.submit(_close)
        self._pool.shutdown()

    def round(self, first: int, count: int, negatives: bool) -> dict[str, Any]:
        return self._pool.submit(_round, first, count, negatives).result()


# In the process of a source:

_work: dict[str, Any] = {}


def _open(config: RunConfig) -> tuple[float, int]:
    """Seconds that the source took to start, and MiB that it and its children then hold."""
    os.dup2(2, 1)  # libraries print what they like; stdout is for the table
    began = time.perf_counter()
    source = _work["source"] = caption_source(config.captions)
    seconds = time.perf_counter() - began
    _work["ledger"] = Ledger(config.seed, source.concepts, source.axes, 1, 1)
    this = psutil.Process()
    return seconds, sum(p.memory_info().rss for p in (this, *this.children(recursive=True))) // MIB


def _round(first: int, count: int, negatives: bool) -> dict[str, Any]:
    source: CaptionSource = _work["source"]
    tasks = [_work["ledger"].task(number) for number in range(first, first + count)]
    tokens, cpu, began = source.tokens, _processor_seconds(), time.perf_counter()
    results = source.write(tasks, [negatives] * count)
    seconds, cpu = time.perf_counter() - began, _processor_seconds() - cpu
    dropped = [result for result in results if isinstance(result, Dropped)]
    return {
        "tasks": count,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "tokens": source.tokens - tokens,
        "captions": count - len(dropped),
        "dropped": len(dropped),
        "accepted": sum(_accepted(result) for result in results),
        "refused": sum(len(result.rejected) for result in results),
    }


def _accepted(result: Caption | Dropped) -> int:
    """Replies that were taken for the caption or its hard negative."""
    if isinstance(result, Dropped):
        return int(result.rejected[-1].startswith("negative"))  # its caption was
    return 1 + (result.negative is not None)


def _processor_seconds() -> float:
    """Of this process and its children so far: the steadier measure where cores are shared."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def _close() -> None:
    with closing(_work.pop("source")):
        pass
