"""Cloze questions over entities (ReCoRD): which entity of the passage fills the gap?"""
