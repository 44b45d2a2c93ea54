# The images of docker-compose.yml, one target each:
#
#     gateway     the command line and the gateway; no vLLM in it
#     engine      upstream's own vLLM for GPUs, with the plugin that finds adapters
#     engine-cpu  vLLM's community build for CPUs, with the same plugin
#
# What is pinned by version alone has no digest that we could confirm: vLLM's image here, Qdrant's in docker-compose.yml.

FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d AS python

FROM python AS source
WORKDIR /opt/slmdock
COPY . .

# uv brings PyTorch's CPU build and is not needed afterwards.
FROM source AS gateway-packages
RUN --mount=type=cache,target=/root/.cache SLMDOCK_BUILD=gateway scripts/setup && .venv/bin/pip uninstall --yes uv

FROM source AS engine-packages
RUN --mount=type=cache,target=/root/.cache SLMDOCK_BUILD=engine scripts/setup && .venv/bin/pip uninstall --yes uv

FROM python AS runtime
# Volumes take their owner from the image's folders when they are made.
RUN useradd --uid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin slmdock \
    && install --directory --owner slmdock --group slmdock /var/lib/slmdock /var/lib/slmdock/store /var/lib/metrics-key
ENV PATH=/opt/slmdock/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /tmp

FROM runtime AS engine-cpu
# vLLM's CPU build links libnuma.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1=2.0.16-1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=engine-packages /opt/slmdock /opt/slmdock
USER 10001:10001
# There is no compiler in the image, so nothing is to be compiled.
ENTRYPOINT ["python3", "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]

FROM vllm/vllm-openai:v0.32.0 AS engine
COPY --from=source /opt/slmdock /opt/slmdock
# Upstream's image has all that the plugin imports but Qdrant Edge; the last line would say what else were missing.
RUN sed -n '/^qdrant-edge-py==/,/[^\\]$/p' /opt/slmdock/requirements/gpu.txt > /tmp/more.txt \
    && uv pip install --system --no-cache --no-deps --require-hashes --requirement /tmp/more.txt \
    && uv pip install --system --no-cache --no-deps /opt/slmdock \
    && rm -r /tmp/more.txt /opt/slmdock \
    && useradd --uid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin slmdock \
    && python3 -c "import serving.resolver"
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["python3", "-m", "vllm.entrypoints.openai.api_server"]

FROM runtime AS gateway
COPY --from=gateway-packages /opt/slmdock /opt/slmdock
USER 10001:10001
ENTRYPOINT ["slmdock"]
CMD ["serve"]
