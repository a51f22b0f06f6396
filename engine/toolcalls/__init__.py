"""Streaming parsers of tool calls, one for each format that models are trained on."""

from capyra.engine.toolcalls.base import CallPiece, Piece, ToolCallParser

__all__ = ["CallPiece", "Piece", "ToolCallParser"]
