# docker build --tag tabserve .                                      the service
# docker build --target training --tag tabserve:training .           training, with its libraries
#
# Both contain the same code and the same libraries of the service. Nothing here needs BuildKit or a build argument.
# Models come from the context's models/ folder; a use case without a model there is trained in a build stage.
# Their hold-outs, rows of real people, stay out of the service's image unless --build-arg HOLD_OUT=true is given.
ARG VERSION=unknown
ARG COMMIT=unknown
ARG HOLD_OUT=false

FROM python:3.13-slim-trixie AS base
# LightGBM's OpenMP. Debian keeps one version in a release, with its security fixes, so there is nothing to pin.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
    && useradd --no-log-init --uid 10001 --user-group --home-dir /tmp --shell /usr/sbin/nologin tabserve \
    && install --directory --mode 1777 /var/lib/tabserve
WORKDIR /app
# Finds the code and its command from any folder. What is larger than the threshold goes back to the system when it is
# freed: by default glibc raises it to the size of what was freed, and bodies of 16 MB leave holes in the heap.
ENV PATH=/app/bin:/app/.venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_MMAP_THRESHOLD_=1000000 \
    MODEL_REGISTRY=/app/models \
    HOST=0.0.0.0


FROM base AS libraries
COPY requirements.txt requirements-s3.txt ./
# The libraries' tests take 60 MB, and what of pyarrow reads no file here another 60: headers, Flight and Amazon S3, which
# s3fs reads. numpy/_core/tests stays: scipy and scikit-learn import numpy.testing, which needs it.
RUN python -m venv --without-pip .venv \
    && pip --python .venv/bin/python install --no-cache-dir --disable-pip-version-check \
           --requirement requirements-s3.txt \
    && find .venv -type d -name tests -not -path '*/numpy/_core/tests' -prune -exec rm -r {} + \
    && find .venv -path '*/pyarrow/*' '(' -name include -o -name src -o -name '*flight*' -o -name '*s3*' ')' -prune \
           -exec rm -r {} +


# The code as pip installs and compiles it: packages, their data, the command `tabserve`. The modes of the context's
# files do not matter.
FROM libraries AS code
WORKDIR /source
COPY setup.py application.py gunicorn.conf.py requirements*.in ./
COPY api api
COPY src src
RUN pip --python /app/.venv/bin/python install --no-cache-dir --disable-pip-version-check --no-deps --target /code . \
    && install --mode 644 application.py gunicorn.conf.py /code


FROM base AS app
COPY --from=libraries /app/.venv .venv
COPY --from=code /code ./


FROM app AS training
COPY requirements-train.txt /tmp/
RUN pip --python .venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --requirement /tmp/requirements-train.txt \
    && install --directory --owner tabserve --group tabserve models model-cache
ARG VERSION
ARG COMMIT
# It works in whatever folder is mounted, as whoever owns that: they may have no home here.
ENV COMMIT=$COMMIT \
    MODEL_REGISTRY=models \
    HOME=/tmp
LABEL org.opencontainers.image.title="Tabserve training" \
      org.opencontainers.image.description="Trains models on tables" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"
USER 10001:10001
CMD ["tabserve", "train"]


# The models that answer. The libraries of training are installed only if a model is missing. With models in the context
# this takes seconds; Elastic Beanstalk ends a build after 300 seconds.
FROM app AS models
COPY requirements-train.txt /tmp/
# With the glob the folder may be absent; setup.py is there because COPY needs at least one file.
COPY setup.py model[s] models/
ARG COMMIT
ARG HOLD_OUT
ENV COMMIT=$COMMIT
RUN missing=$(tabserve models missing) \
    && if [ -n "$missing" ]; then \
           pip --python .venv/bin/python install --no-cache-dir --disable-pip-version-check \
               --requirement /tmp/requirements-train.txt; \
       fi \
    && for name in $missing; do tabserve train "$name" || exit 1; done \
    && tabserve models copy --hold-out="$HOLD_OUT" /models


FROM app
COPY --from=models /models models
# What is in /tmp is lost with the container. /var/lib/tabserve is for a volume, which anybody may write to.
ENV MODEL_CACHE=/tmp/model-cache \
    DATABASE_URL=sqlite:////tmp/jobs.db \
    AUTH_USERS_FILE=/etc/tabserve/users.txt \
    PORT=8080
USER 10001:10001
EXPOSE 8080
# localhost works whatever HOST says
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import http.client, os; \
        ask = http.client.HTTPConnection('localhost', int(os.environ['PORT']), timeout=4); \
        ask.request('GET', '/ready'); \
        raise SystemExit(ask.getresponse().status != 200)"]
CMD ["tabserve", "serve"]
# Last, because they change with every commit: so nothing above has to be rebuilt.
ARG VERSION
ARG COMMIT
LABEL org.opencontainers.image.title="Tabserve" \
      org.opencontainers.image.description="Answers predictions from models trained on tables" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"
