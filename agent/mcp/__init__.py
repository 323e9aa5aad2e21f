"""The Model Context Protocol both ways: skills for its clients, and its servers as skills.

See docs/mcp.md. Needs the packages of llava-plus[mcp], so nothing is imported here.
"""
