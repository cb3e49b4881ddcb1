"""Language side of KG-LM: word-level LSTM language models, a triple classifier that reads triples as text, both together.

The modules, lowest first: ``words`` (texts to words), ``vocabulary``, ``corpus`` (text files to word ids, batches),
``triples`` (triples as text, their names), ``negatives`` (false triples), ``splits`` (texts and triples apart by entity),
``vectors`` (initial word vectors), ``options`` (settings of the network, checked), ``model`` (the network), ``softmax``
(losses over the vocabulary), ``perplexity``, ``classification`` (metrics), ``generation``, ``saved`` (a model's folder),
``schedule`` (which task when), ``tasks`` (what a step of either task does), ``trainer`` (the resumable loop), ``inputs`` (what
settings name, read and encoded), ``network`` (from settings to a network), ``measures`` (all figures of a split), ``export``,
``memory``, ``runner`` (kinds ``lm`` and ``joint``).

After A of Patel & Ferraro 2020 (DeeLIO), "On the Complementary Nature of Knowledge Graph Embedding, Fine Grain Entity Types,
and Language Modeling".
"""
