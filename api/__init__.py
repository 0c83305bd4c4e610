"""The HTTP service, put together by `app`.

- Routes: `controller`, `page` (`/`), `docs` (`/docs`), and those of a single use case. Another protocol
  gets a module with a blueprint, which `app` registers.
- Before Flask: `front` answers what is certain, `bridge` hands over the rest, `threads` has its lanes; `worker` accepts
  connections, `connection` has their deadlines.
- Requests: `bodies` (JSON, files, the query).
- Large tables: `jobs`; `companion` starts the worker that answers them.
- Metrics: `metrics`, a package: what is counted, where, and how it is shown.
- Answers: `answers` (JSON and CSV), `errors` and `problems` (every problem and its status, such as 422), `headers`.
- Access: `auth`, `users`, `limits`.
- Contract: `schemas`, `openapi`.
"""

API_VERSION = "1"
