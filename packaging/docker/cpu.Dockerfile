# tips-bench on processors.  docker build -f packaging/docker/cpu.Dockerfile -t tips-bench .
#   docker run --rm -v "$PWD:/work" tips-bench run --task rooms-seg --model tips-nano
FROM python:3.12-slim-bookworm

COPY scripts/system_libraries.sh /tmp/system_libraries.sh
RUN sh /tmp/system_libraries.sh && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/tips-bench
COPY . .
# torch's build for processors; the one of PyPI brings 3 GB of CUDA.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu '.[encoders,faiss]' \
    && useradd --create-home --uid 1000 bench
USER 1000
WORKDIR /work
ENTRYPOINT ["tips-bench"]
CMD ["--help"]
