"""Checks of records before training: each has a name, and none holds a file whole."""
