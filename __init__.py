"""LLaVA-Plus: a large multimodal model that calls vision skills, and learns to."""
