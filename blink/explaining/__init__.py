"""Links, the reasons for them and entities, as data and as text for terminals.

The modules: ``explanation`` (every span of a text), ``parts`` (what scores are made of), ``reasons`` (features
in words), ``render`` (fragments of styled text), ``cards`` (a link), ``explain`` (why it won), ``unlinked`` (why words are
not linked), ``report`` (explained texts, printed), ``entities``.
"""
