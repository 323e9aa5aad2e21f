"""Skills of this project for the clients of LLaVA-Plus and OpenThinkIMG (docs/bridge.md)."""

from .app import create_bridge_app

__all__ = ["create_bridge_app"]
