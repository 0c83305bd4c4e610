"""The HTTP service.

Each thing has one module; `app` puts them together.

- Routes: `controller`, `page` (`/`), `docs` (`/docs`), and those of a single use case. A further protocol or `/metrics`
  is a module with a blueprint, which `app` registers.
- What comes in: `bodies` (JSON, files, the query), `connection` and `worker` (slow clients, the stop).
- What goes out: `answers` (JSON and CSV), `errors` (every problem and its status, 422 among them), `headers`.
- Who may ask, and how often: `auth`, `users`, `limits`; `turn` does large work one piece at a time.
- The contract: `schemas`, `openapi`.
"""

API_VERSION = "1"
