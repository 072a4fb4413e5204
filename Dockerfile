# One image for the daemon, the ingest consumers and Ray's head and workers.
#
#   docker build --build-arg PYTHON_DIGEST=sha256:... -t plora .                              without a GPU
#   docker build --build-arg PYTHON_DIGEST=sha256:... --build-arg ACCELERATOR=cuda -t plora .
#
# PYTHON_DIGEST is what `docker buildx imagetools inspect python:3.11-slim-bookworm` prints: there is no default, so that
# nobody builds on an image that was not chosen. TORCH_INDEX names a package index for torch alone, for accelerators whose
# build is not the default one of the index in use.
ARG PYTHON_DIGEST

FROM docker.io/library/python:3.11-slim-bookworm@${PYTHON_DIGEST} AS build
ARG ACCELERATOR=cpu
ARG TORCH_INDEX=
ENV VENV=/opt/venv PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY constraints.txt pyproject.toml README.md LICENSE ./
RUN python -m venv "$VENV"
RUN "$VENV/bin/pip" install "$(grep '^pip==' constraints.txt)"
RUN "$VENV/bin/pip" install -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' constraints.txt)"
RUN "$VENV/bin/python" -c "import sys, torch; \
has, asked = 'cuda' if torch.version.cuda else 'cpu', sys.argv[1]; \
sys.exit(0 if has == asked else f'ACCELERATOR is {asked}, but the torch of this index is built for {has}: name another by TORCH_INDEX')" \
    "$ACCELERATOR"
RUN "$VENV/bin/pip" install -c constraints.txt --group service
COPY plora plora
RUN "$VENV/bin/pip" install -c constraints.txt --no-deps .
COPY daemon app/daemon
COPY storage app/storage
COPY policies app/policies
RUN "$VENV/bin/python" -m compileall -q app

FROM docker.io/library/python:3.11-slim-bookworm@${PYTHON_DIGEST}
ARG VERSION=0
LABEL org.opencontainers.image.title="plora" \
      org.opencontainers.image.description="A tiny encrypted adapter for every user of one frozen language model." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# wget: KubeRay's own probes call it. The profile: KubeRay starts Ray in a login shell, which forgets PATH.
RUN apt-get update && apt-get install --yes --no-install-recommends wget && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 plora && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp plora \
    && echo 'export PATH=/opt/venv/bin:$PATH' > /etc/profile.d/plora.sh \
    && install -d -o 10001 -g 10001 -m 0700 /data /keys
COPY --from=build /opt/venv /opt/venv
COPY --from=build /build/app /app
WORKDIR /app
# HOME and caches lie in /tmp, the one place that is writable under a read-only root filesystem.
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp HF_HOME=/tmp/huggingface \
    PLORA_HOST=0.0.0.0 PLORA_DATA_DIR=/data PLORA_KEYS_DIR=/keys PLORA_LOG_FORMAT=json
USER 10001:10001
EXPOSE 8470
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "daemon"]
CMD ["serve"]
