"""Models and knowledge bases on the Hugging Face hub, which is asked for names that begin with ``hf://`` alone."""
