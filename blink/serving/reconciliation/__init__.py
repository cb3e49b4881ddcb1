"""The reconciliation protocol, version 0.2, over a knowledge base: what OpenRefine and other clients ask, and the answers."""
