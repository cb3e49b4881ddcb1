"""Records, mention files and windows. Knows nothing of torch or faiss."""
