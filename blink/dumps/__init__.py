"""Knowledge bases and training data out of the dumps of Wikidata and Wikipedia, in several processes, and on after a kill."""
