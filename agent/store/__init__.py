"""Conversations that outlive a process: a database of turns, and image bytes by their content.

`places` and `values` are light; what opens a database is in `store`.
"""
