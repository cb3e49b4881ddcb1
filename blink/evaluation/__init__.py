"""Weak and strong matching, micro metrics with intervals, and per-question reports."""
