"""What Ctrl-C does: it never prints a traceback, not even while modules are imported."""

import signal


def end_at_interrupt() -> None:
    """Let Ctrl-C end the process at once; a background process that ignores it still does."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_at_interrupt() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again, for code that must report or clean up."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
