"""Entities from files of other formats and from Python objects, as lines of a catalogue.

`formats` recognises what a file is, with `sniffing` for tables; `tables`, `json_rows`, `parquet` and `records` read rows;
`columns` maps their columns; `reading` has the entities of a file; `conversion` writes a catalogue of them.
"""
