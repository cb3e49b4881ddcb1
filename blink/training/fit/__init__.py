"""Models fitted after training: reranker, calibration, weights of a graph prior."""
