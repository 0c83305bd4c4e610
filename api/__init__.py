"""The HTTP service, put together by `app`.

- Routes: `controller`, `page` (`/`), `docs` (`/docs`), and those of a single use case. Another protocol or
  `/metrics` gets a module with a blueprint, which `app` registers.
- Requests: `bodies` (JSON, files, the query), `connection` and `worker` (slow clients), `stop`.
- Answers: `answers` (JSON and CSV), `errors` (every problem and its status, such as 422), `headers`.
- Access: `auth`, `users`, `limits`; `turn` does large work one piece at a time.
- Contract: `schemas`, `openapi`.
"""

API_VERSION = "1"
