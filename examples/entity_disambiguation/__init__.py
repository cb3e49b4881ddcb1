"""Entity disambiguation (AIDA and five other sets): which of its candidates is a mention?"""
