"""Ctrl-C at a chosen moment."""


class InterruptAfter:
    """Ctrl-C once so many chunks are done."""

    def __init__(self, chunks):
        self.chunks = chunks

    def __call__(self, progress):
        if progress.chunks_done >= self.chunks:
            raise KeyboardInterrupt
