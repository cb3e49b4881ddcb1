"""Entity typing (Open Entity): what kinds of thing is this mention?"""
