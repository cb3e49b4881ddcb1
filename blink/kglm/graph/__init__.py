"""Vectors of entities and relations learned from triples: reading, models, training, ranking, classification, export."""
