"""Initial embeddings from pretrained language models: tables of texts, encoding, dimension reduction, plots, initial values."""
