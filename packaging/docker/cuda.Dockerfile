# tips-bench on NVIDIA GPUs; torch's wheels bring CUDA, the host brings the driver and the NVIDIA container toolkit.
#   docker build -f packaging/docker/cuda.Dockerfile -t tips-bench:cuda .
#   docker run --rm --gpus all --shm-size 8g -v "$PWD:/work" -v /data:/data -e TIPS_BENCH_DATA=/data tips-bench:cuda doctor
FROM python:3.12-slim-bookworm

COPY scripts/system_libraries.sh /tmp/system_libraries.sh
# torch.compile needs a C compiler.
RUN sh /tmp/system_libraries.sh && apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends gcc=4:12.* libc6-dev=2.36-* \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/tips-bench
COPY . .
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[encoders,faiss,slurm,remote]' \
    && useradd --create-home --uid 1000 bench
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /work
ENTRYPOINT ["tips-bench"]
CMD ["--help"]
