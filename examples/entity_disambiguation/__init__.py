"""Entity disambiguation (AIDA and five other sets): selects one of the candidates of each mention."""
