"""Rate of the whole path from texts to links against that of the context encoder alone, and the time of one call a text.

Encoder and path run alternately in one process: their ratio is what counts, absolute rates depend on the machine. The encoder
repeats the batches that the path gave to it. Caches are emptied before each run, since texts seldom repeat their names; within
a run they fill. The stages are timed in a run of their own. With ``--against`` a second process runs the same on another tree
of this repository, such as a worktree of an earlier commit, in turn with the first; links and scores of both are compared.

    python benchmarks/path_speed.py FILE [--kb DIR] [--model DIR] [--runs 5] [--calls 100] [--against TREE] [--out OUT.json]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STAGES = {
    "tokenize": ["stages.tokenizer.tokenize"],
    "windows": ["stages.windows.inputs"],
    "encode": ["stages.detector.backend.encode", "stages.detector.model.encode_context"],
    "spans": ["stages.detector.detect"],
    "search": ["stages.candidates.index.search"],
    "names": ["stages.candidates.expand"],
    "features": ["stages.featurizer.measure"],
    "rerank": ["stages.reranker.rerank"],
    "document": ["_round.merged", "_merged"],
    "decode": ["decode"],
}
"""Methods of a linker's attributes that are timed; of several the first that the tree has. A method that calls
that of another stage is timed without it."""
SETTINGS = ("file", "kb", "model", "texts", "batch_size", "calls", "threads", "backend")


class Worker:
    """A linker in this process.

    Args:
        file: mention file with the texts.
        kb: folder of the knowledge base, or None.
        model: folder of the model, or None.
        texts: texts that are linked at most.
        batch_size: of the path.
        calls: texts that are linked one a call.
        threads: of the encoder and the search.
        backend: of the encoder.
    """

    def __init__(
        self,
        *,
        file: str,
        kb: str | None,
        model: str | None,
        texts: int,
        batch_size: int,
        calls: int,
        threads: int,
        backend: str,
    ) -> None:
        import torch

        from blink.apps.model_options import open_linker
        from blink.data.mention_files import read_samples

        torch.set_num_threads(threads)
        os.environ["BLINK_BACKEND"] = backend
        self.linker = open_linker(model, kb, precision="fp32")
        self.all = [sample.text for sample in read_samples(file)][:texts]
        self.single, self.batch_size = self.all[:calls], batch_size
        self.batches: list[tuple[Any, ...]] = []
        with self._wrapped("encode", self._recorded):
            self.path()
        self.encode = getattr(*self._method("encode"))

    def _recorded(self, encode: Callable[..., Any], *arguments: Any) -> Any:
        self.batches.append(arguments)
        return encode(*arguments)

    def path(self) -> list[Any]:
        """Link all texts."""
        return list(self.linker.link(self.all, batch_size=self.batch_size))

    def encoder(self) -> None:
        """The batches of the path, through the encoder alone."""
        import torch

        with torch.inference_mode():
            for arguments in self.batches:
                self.encode(*arguments)

    def timed(self, name: str) -> dict[str, float]:
        """Seconds of wall and CPU time of `path` or `encoder`."""
        forget()
        wall, cpu = time.perf_counter(), time.process_time()
        getattr(self, name)()
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "texts": len(self.all)}

    def calls(self) -> dict[str, list[float]]:
        """Milliseconds of wall and CPU time of each call."""
        forget()
        times: dict[str, list[float]] = {"wall": [], "cpu": []}
        for text in self.single:
            wall, cpu = time.perf_counter(), time.process_time()
            self.linker(text)
            times["cpu"].append(1000 * (time.process_time() - cpu))
            times["wall"].append(1000 * (time.perf_counter() - wall))
        return times

    def stages(self) -> dict[str, dict[str, float]]:
        """Milliseconds of CPU time that a text takes in each stage, in batches and one a call."""
        calls = lambda: [self.linker(text) for text in self.single]  # noqa: E731
        return {"batch": self._stages(self.path, len(self.all)), "call": self._stages(calls, len(self.single))}

    def _stages(self, run: Callable[[], object], texts: int) -> dict[str, float]:
        spent, running = dict.fromkeys([*STAGES, "rest"], 0.0), ["rest"]
        last = time.process_time()

        def switch(after: Callable[[], object]) -> None:
            nonlocal last
            now = time.process_time()
            spent[running[-1]] += now - last
            last = now
            after()

        def timer(name: str, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            switch(lambda: running.append(name))
            try:
                return method(*arguments, **options)
            finally:
                switch(running.pop)

        with contextlib.ExitStack() as stack:
            for name in STAGES:
                stack.enter_context(self._wrapped(name, functools.partial(timer, name)))
            forget()
            switch(lambda: None)
            spent = dict.fromkeys(spent, 0.0)
            run()
            switch(lambda: None)
        return {name: 1000 * seconds / texts for name, seconds in spent.items()}

    def links(self) -> list[list[tuple[int, int, int, float]]]:
        """Span, row and score of each link of each text."""
        return [[(x.start, x.end, x.row, x.score) for x in linked.links] for linked in self.path()]

    def _method(self, name: str) -> tuple[Any, str]:
        for path in STAGES[name]:
            *owners, method = path.split(".")
            with contextlib.suppress(AttributeError):
                owner: Any = functools.reduce(getattr, owners, self.linker)
                getattr(owner, method)
                return owner, method
        raise AttributeError(f"this tree has no method for the stage {name}")

    @contextlib.contextmanager
    def _wrapped(self, name: str, wrapper: Callable[..., Any]) -> Iterator[None]:
        owner, method = self._method(name)
        vars(owner)[method] = functools.partial(wrapper, getattr(owner, method))
        try:
            yield
        finally:
            del vars(owner)[method]


def forget() -> None:
    """Empty the caches of functions."""
    for cached in gc.get_objects():
        if type(cached) is functools._lru_cache_wrapper and getattr(cached, "__module__", "").startswith("blink."):
            cached.cache_clear()


class Process:
    """A worker in a process of its own, on a tree of this repository."""

    def __init__(self, tree: Path, settings: Mapping[str, Any]) -> None:
        threads = {name: str(settings["threads"]) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        environment = {**os.environ, **threads, "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, __file__, "--worker", str(tree.resolve()), json.dumps(settings)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=tree
        )
        self("ready")

    def __call__(self, *request: str) -> Any:
        """The answer of the worker to a request: a method and its arguments."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"the worker stopped with code {self._process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        """Stop the worker."""
        self._process.communicate()


def serve(tree: str, settings: str) -> None:
    """Answer the requests of the other process, a line each."""
    sys.path.insert(0, tree)
    answers, sys.stdout = sys.stdout, sys.stderr
    worker = Worker(**json.loads(settings))
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        answer = None if method == "ready" else getattr(worker, method)(*arguments)
        print(json.dumps(answer), file=answers, flush=True)


def measure(sides: Mapping[str, Process], runs: int) -> dict[str, dict[str, Any]]:
    """The figures of each side; all measurements in turn."""
    rates: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    calls: dict[str, list[dict[str, list[float]]]] = {side: [] for side in sides}
    stages: dict[str, list[dict[str, dict[str, float]]]] = {side: [] for side in sides}
    for run in range(runs):
        for side, process in sides.items():
            rates[side].append({name: process("timed", name) for name in ("encoder", "path")})
            calls[side].append(process("calls"))
            stages[side].append(process("stages"))
        print(f"run {run + 1} of {runs}", file=sys.stderr, flush=True)
    return {side: figures(rates[side], calls[side], stages[side]) for side in sides}


def figures(
    rates: Sequence[Mapping[str, Any]],
    calls: Sequence[Mapping[str, Sequence[float]]],
    stages: Sequence[Mapping[str, Mapping[str, float]]],
) -> dict[str, Any]:
    """Medians over the runs."""
    shares = [rate["encoder"]["cpu"] / rate["path"]["cpu"] for rate in rates]
    return {
        "texts_per_s": {
            name: round(statistics.median(rate[name]["texts"] / rate[name]["wall"] for rate in rates), 1)
            for name in ("encoder", "path")
        },
        "path_against_encoder": {"median": round(statistics.median(shares), 3), "min": round(min(shares), 3)},
        "call_ms": {
            clock: {
                f"p{share}": round(statistics.median(percentile(run[clock], share) for run in calls), 2) for share in (50, 95)
            }
            for clock in ("cpu", "wall")
        },
        "cpu_ms_a_text": {
            kind: {name: round(statistics.median(run[kind][name] for run in stages), 3) for name in stages[0][kind]}
            for kind in ("batch", "call")
        },
    }


def percentile(values: Sequence[float], share: int) -> float:
    """The value at or below which a share of them is, in percent."""
    return sorted(values)[min(len(values) - 1, len(values) * share // 100)]


def compared(ours: Mapping[str, Any], theirs: Mapping[str, Any], process: Process, other: Process) -> dict[str, Any]:
    """Our figures against those of another tree, and how far links and scores differ."""
    links, links_of_other = process("links"), other("links")
    same = [[x[:3] for x in a] == [x[:3] for x in b] for a, b in zip(links, links_of_other, strict=True)]
    pairs = zip(links, links_of_other, same, strict=True)
    apart = [abs(x[3] - y[3]) for a, b, is_same in pairs if is_same for x, y in zip(a, b, strict=True)]
    return {
        "texts_linked_differently": same.count(False),
        "largest_difference_of_scores": max(apart, default=0.0),
        "call_cpu_ratio": {
            p: round(ours["call_ms"]["cpu"][p] / theirs["call_ms"]["cpu"][p], 3) for p in ours["call_ms"]["cpu"]
        },
        "path_rate_ratio": round(ours["texts_per_s"]["path"] / theirs["texts_per_s"]["path"], 2),
    }


def main() -> None:
    """Run the comparison, print it and write it as JSON."""
    if sys.argv[1:2] == ["--worker"]:
        serve(*sys.argv[2:])
        return
    sys.path.insert(0, str(ROOT))
    from scripts.harness import print_json

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--model")
    parser.add_argument("--kb")
    parser.add_argument("--texts", type=int, default=512, help="texts that are linked at most")
    parser.add_argument("--calls", type=int, default=100, help="texts that are linked one a call")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backend", default="torch", help="torch or onnx, of trees that have both")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--against", type=Path, metavar="TREE", help="another tree of this repository")
    parser.add_argument("--other-kb", metavar="DIR", help="knowledge base of the other tree, if it opens no newer ones")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    settings = {name: getattr(args, name) for name in SETTINGS}
    settings |= {name: str(Path(path).resolve()) for name in ("file", "kb", "model") if (path := settings[name])}
    other_kb = {} if args.other_kb is None else {"kb": str(Path(args.other_kb).resolve())}
    sides = {"this tree": Process(ROOT, settings)} | (
        {} if args.against is None else {"other tree": Process(args.against, settings | other_kb)}
    )
    result: dict[str, Any] = {"settings": settings | {"runs": args.runs}, **measure(sides, args.runs)}
    if args.against is not None:
        result["against"] = compared(result["this tree"], result["other tree"], sides["this tree"], sides["other tree"])
    for process in sides.values():
        process.close()
    print_json(result, args.out)


if __name__ == "__main__":
    main()
