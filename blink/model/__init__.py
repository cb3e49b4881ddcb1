"""The bi-encoder: encoders, mention head, aggregation, and the readers of its checkpoints."""
