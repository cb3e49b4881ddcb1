"""A training step of ComplEx against all entities: this project's loop and PyKEEN's, CPU seconds a question.

python benchmarks/kglm_speed.py $BLINK_DATA/kg/codex-s --dim 256
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from blink.kglm.config import load_settings
from blink.kglm.graph.learner import GraphLearner
from blink.kglm.graph.readers import read_graph
from blink.kglm.graph.triples import Graph
from blink.kglm.run import KglmRun


def ours(graph: Graph, folder: str, name: str, dim: int, batch: int, steps: int) -> float:
    """CPU seconds a question."""
    words = [f"--model.name={name}", f"--model.dim={dim}", f"--train.batch_size={batch}", f"--data.graph={folder}"]
    settings = load_settings("graph", None, words)
    with tempfile.TemporaryDirectory() as path:
        learner = GraphLearner(graph, KglmRun(Path(path) / "run", settings))
        learner.step(0)
        started = time.process_time()
        for number in range(1, steps + 1):
            learner.step(number)
        return (time.process_time() - started) / (steps * batch)


def pykeens(graph: Graph, name: str, dim: int, batch: int, steps: int) -> float:
    """CPU seconds a question of `LCWATrainingLoop`, which also asks each question once for all its answers."""
    from pykeen.models import model_resolver
    from pykeen.training import LCWATrainingLoop
    from pykeen.triples import CoreTriplesFactory

    triples = torch.from_numpy(graph.train)
    factory = CoreTriplesFactory.create(
        triples, num_entities=len(graph.entities), num_relations=len(graph.relations), create_inverse_triples=True
    )
    width = dim // 2 if name == "complex" else dim
    model = model_resolver.make(name, triples_factory=factory, embedding_dim=width, loss="crossentropy", random_seed=0)
    loop = LCWATrainingLoop(model=model, triples_factory=factory, optimizer="adam")
    options = {"num_epochs": 1, "batch_size": batch, "use_tqdm": False, "use_tqdm_batch": False}
    questions = len(torch.unique(factory._add_inverse_triples_if_necessary(triples)[:, :2], dim=0))
    started = time.process_time()
    loop.train(triples_factory=factory, **options)
    return (time.process_time() - started) / questions


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph")
    parser.add_argument("--model", default="complex")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    graph = read_graph(load_settings("graph", None, [f"--data.graph={options.graph}"]).data)
    project = ours(graph, options.graph, options.model, options.dim, options.batch, options.steps)
    library = pykeens(graph, options.model, options.dim, options.batch, options.steps)
    print(f"{options.model}, {options.dim}-dimensional, {len(graph.entities):,} entities, {torch.get_num_threads()} threads")
    print(f"  here:   {project * 1e6:8.1f} us a question")
    print(f"  PyKEEN: {library * 1e6:8.1f} us a question ({library / project:.1f} times)")


if __name__ == "__main__":
    main()
