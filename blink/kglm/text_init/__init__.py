"""Initial embeddings from pretrained language models: tables of texts, encoding, reduction, plots, start values of a graph."""
