# The daemon in an image: two stages, everything from locks with hashes, no root, no write outside its volume.
#
#   docker build -t rollbackd .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges -p 127.0.0.1:9797:9797 \
#       -v rollbackd:/var/lib/rollbackd -v ./rollbackd.yaml:/etc/rollbackd/rollbackd.yaml:ro rollbackd
#
# In a container the default bind of 127.0.0.1 is the container's own: the configuration must listen on 0.0.0.0:9797.
#
# The tests read this file but do not build it: that takes an engine and a base image. It was last built and run, read-only
# and without capabilities, on Docker Engine 20.10 with Debian 12's Python 3.11 as BASE.

ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
COPY requirements/core.lock requirements/build.lock requirements/
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.lock \
    && python -m venv --without-pip /opt/rollbackd \
    && /opt/build/bin/pip --python /opt/rollbackd/bin/python install \
        --no-cache-dir --require-hashes --only-binary :all: -r requirements/core.lock
COPY pyproject.toml README.md LICENSE ./
COPY rollbackd/ rollbackd/
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /wheel \
    && /opt/build/bin/pip --python /opt/rollbackd/bin/python install --no-cache-dir --no-deps /wheel/*.whl \
    && /opt/rollbackd/bin/python -m compileall -q /opt/rollbackd/lib

FROM ${BASE}
LABEL org.opencontainers.image.title="rollbackd" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/rollbackd /opt/rollbackd
ENV PATH=/opt/rollbackd/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/rollbackd
RUN install -d -o 65532 -g 65532 -m 0700 /var/lib/rollbackd
USER 65532:65532
VOLUME /var/lib/rollbackd
WORKDIR /var/lib/rollbackd
EXPOSE 9797
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9797/healthz', timeout=3)"]
ENTRYPOINT ["rollbackd"]
CMD ["run", "-c", "/etc/rollbackd/rollbackd.yaml"]
