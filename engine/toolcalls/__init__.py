"""Streaming parsers of tool calls, one for each format that models are trained on."""

from capyra.engine.toolcalls.base import CallPiece, Piece, ToolCallParser
from capyra.engine.toolcalls.formats import FORMATS, guess, parser

__all__ = ["FORMATS", "CallPiece", "Piece", "ToolCallParser", "guess", "parser"]
