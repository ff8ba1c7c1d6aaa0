# The gateway and the example application: `docker build -t wsgateway .`
# How to run it, and what was measured: docs/docker.md

FROM python:3.11-slim AS build

# Of binutils, only strip is used.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/*

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# What the gateway needs, in a layer that changes only with these two files. From wheels alone, so
# that nothing is compiled here. uvloop and others ship their debug symbols: 23 MB of 106.
COPY constraints.txt pyproject.toml ./
RUN python -c "import tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], sep='\n')" > requirements.txt \
    && pip install --only-binary :all: --prefix /dependencies \
        --constraint constraints.txt --requirement requirements.txt \
    && find /dependencies -name '*.so' -exec strip --strip-debug {} +

# The gateway, as the wheel that the tests install; with the build backend they were run with.
RUN pip install --constraint constraints.txt hatchling
COPY README.md LICENSE ./
COPY wsgateway wsgateway
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && pip install --no-deps --prefix /package dist/*.whl


FROM python:3.11-slim

COPY --from=build /dependencies /usr/local
COPY --from=build /package /usr/local

# What installs packages is of no use to who runs the gateway; docs/docker.md adds some without it.
# The base image has no compiled standard library and the user below may not write one, so the first
# run is here: it halves the CPU of every start, and takes two thirds from every health check.
RUN python -B -m pip uninstall --yes --root-user-action=ignore pip setuptools wheel \
    && wsgateway --version

WORKDIR /app
COPY routes routes

# Clients from everywhere, @connections and metrics from this container alone: handlers reach them
# there, and nobody else can until WSGATEWAY_MANAGEMENT_HOST is set. Variables and not flags of CMD,
# so that other arguments keep them and `docker run -e` overrides them.
# Unbuffered, because what handlers print would otherwise show up only when 8 KiB have come together.
ENV PYTHONUNBUFFERED=1 \
    WSGATEWAY_HOST=0.0.0.0 \
    WSGATEWAY_MANAGEMENT_HOST=127.0.0.1 \
    WSGATEWAY_MANAGEMENT_PORT=8081

EXPOSE 8080
USER 10001:10001
STOPSIGNAL SIGTERM

# The public port, because it is on 127.0.0.1 wherever the management port is. Without urllib, which
# would go through a proxy that the environment names.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-IS", "-c", "import http.client, os, ssl, sys; \
at = '127.0.0.1', int(os.environ.get('WSGATEWAY_PORT', 8080)); \
tls = os.environ.get('WSGATEWAY_TLS_CERTIFICATE') and ssl._create_unverified_context(); \
asks = http.client.HTTPSConnection(*at, timeout=2, context=tls) if tls else \
http.client.HTTPConnection(*at, timeout=2); \
asks.request('GET', '/_wsgateway/health'); \
sys.exit(asks.getresponse().status != 200)"]

ENTRYPOINT ["wsgateway"]
CMD ["serve"]
