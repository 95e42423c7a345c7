# Image with the command line, the HTTP server and the worker. Redis or Valkey has its own image.
# Needs Docker 25 or newer.
#
#   docker build -t redismetrics .
#   docker run --rm -e REDISMETRICS_URL=redis://host:6379/0 redismetrics \
#       worker --metrics-port 0.0.0.0:9465
#
# Nothing is compiled: every dependency is installed from a wheel, or the build fails.

FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY . .
RUN pip wheel --no-deps --wheel-dir /dist .

FROM python:3.13-slim
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN --mount=type=bind,from=build,source=/dist,target=/dist \
    pip install --only-binary :all: "$(echo /dist/*.whl)[alerts,cli,otel,server]"

# A numeric user, so that runAsNonRoot of Kubernetes can check it. It owns and writes nothing.
USER 10001:10001

# The worker and the HTTP server, each in its own container, both listen on this port.
# /readyz of the HTTP server also checks Redis.
EXPOSE 9465
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --start-interval=1s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9465/healthz', timeout=3)"]

ENTRYPOINT ["redismetrics"]
CMD ["--help"]
