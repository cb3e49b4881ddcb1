"""Cloze questions over entities (ReCoRD): the entity of the passage that fills the gap."""
