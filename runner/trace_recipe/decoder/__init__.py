"""From ring-buffer bytes to batches of events: pure on bytes, and no I/O but through Pages."""

from trace_recipe.decoder.live import LiveDecoder
from trace_recipe.decoder.merge import decode

__all__ = ["LiveDecoder", "decode"]
