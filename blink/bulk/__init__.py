"""Links files of any size, record by record: in constant memory, by several processes, and on after a kill."""
