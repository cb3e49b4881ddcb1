"""Language side of KG-LM: word-level LSTM language models, a triple classifier over text, and joint training of both.

The modules, lowest first: ``words`` (tokenization), ``vocabulary``, ``corpus`` (text files to word ids and batches),
``triples`` (triples as text, names), ``negatives`` (negative sampling), ``splits`` (entity-disjoint splits), ``vectors``
(initial word vectors), ``options`` (validated settings of the network), ``model`` (the network), ``softmax`` (losses over
the vocabulary), ``perplexity``, ``classification`` (metrics), ``generation``, ``saved`` (a model's folder), ``schedule`` (which
task a step trains), ``tasks`` (the loss of a step), ``trainer`` (the resumable loop), ``inputs`` (reads and encodes the data of
a run), ``network`` (builds the network from settings), ``measures`` (all metrics of a split), ``export``, ``memory``,
``runner`` (kinds ``lm`` and ``joint``).

After Patel & Ferraro 2020 (DeeLIO), "On the Complementary Nature of Knowledge Graph Embedding, Fine Grain Entity Types, and
Language Modeling".
"""
