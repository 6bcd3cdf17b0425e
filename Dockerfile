# One base for all stages, by its exact tag; whoever releases with a registry at hand adds its digest.
ARG BASE=python:3.13.16-slim-trixie

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/build.txt requirements/serve.txt requirements/embedded.txt requirements/
# The build backend stays outside /venv, so that the image serves with nothing but what serving needs.
RUN python -m venv --without-pip /venv \
    && pip install --no-compile --require-hashes --no-deps -r requirements/build.txt \
    && pip --python /venv/bin/python install --no-compile --require-hashes --no-deps \
        -r requirements/serve.txt -r requirements/embedded.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
# The root file system may be read-only, so the byte code is compiled here; whoever builds may set all times of files.
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /venv/bin/python install --no-compile --no-deps dist/*.whl \
    && pip --python /venv/bin/python check \
    && /venv/bin/python -m compileall -qf --invalidation-mode unchecked-hash /venv/lib

FROM ${BASE}
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HITCOUNTER_HOST=0.0.0.0 \
    HITCOUNTER_OPERATIONS_HOST=0.0.0.0 \
    HITCOUNTER_DATA_DIR=/data
# A new volume takes the owner of the directory that it covers.
RUN install -d -o 10001 -g 10001 -m 0750 /data
COPY --from=build /venv /venv
USER 10001:10001
WORKDIR /data
VOLUME /data
# Port 9180, of operations, is for other containers: whoever publishes it shows it to all who reach this machine.
EXPOSE 8080
STOPSIGNAL SIGTERM
# It asks where the service of the data directory says that it serves, whatever set its host and port.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["hitcounter", "check", "--live"]
ENTRYPOINT ["hitcounter"]
CMD ["serve"]
ARG VERSION REVISION
LABEL org.opencontainers.image.title="hitcounter" \
    org.opencontainers.image.description="A self-hosted web-visit counter that counts every acknowledged hit exactly once" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.revision="${REVISION}"
