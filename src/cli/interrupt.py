"""What Ctrl-C does: never a traceback, not even in the moment in which modules are imported."""

import signal


def end_at_interrupt() -> None:
    """Let Ctrl-C end the process at once; one that ignores it, as in the background, goes on ignoring it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_at_interrupt() -> None:
    """Let Ctrl-C be a KeyboardInterrupt again, for code that has something to say or to put right."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
