"""Relation classification (TACRED): the relation of a subject to an object."""
