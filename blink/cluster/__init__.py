"""Training, encoding, evaluation and linking as jobs of a Slurm cluster, or, where there is none, of this machine.

The modules, lowest first; each imports only from those above it: ``settings``, ``script``, ``jobs``, ``encoding``, ``texts``,
``ranks``, ``submit``, ``watch``, ``runs``, ``words``, ``launchers``.
"""
