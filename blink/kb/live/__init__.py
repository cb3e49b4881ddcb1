"""Edits of a knowledge base while it is in use: a journal of them, and what they change of the files they follow."""
