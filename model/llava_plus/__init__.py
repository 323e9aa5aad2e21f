"""LLaVA-Plus's own language: its turns, the APIs that it calls, and what these answer."""
