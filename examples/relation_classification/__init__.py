"""Relation classification (TACRED): how is the subject related to the object?"""
