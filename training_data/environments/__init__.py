"""Environments: tasks for a policy, skills that answer its calls, and what is good about a turn."""
