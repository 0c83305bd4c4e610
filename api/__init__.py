"""The HTTP service."""

API_VERSION = "1"
