"""gunicorn's settings for the floor: its own threaded worker."""

import os

bind = f"127.0.0.1:{os.environ['PORT']}"
workers = 1
worker_class = "gthread"
threads = 4
keepalive = 75
