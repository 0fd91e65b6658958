# An image of a checkout for machines without a GPU: docker build -f docker/cpu.Dockerfile -t gatectr .
# TORCH_INDEX is the index with the CPU builds of torch; without it pip installs the larger CUDA build.
#   docker build -f docker/cpu.Dockerfile --build-arg TORCH_INDEX=URL -t gatectr .
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE constraints.txt ./
COPY configs configs
COPY recsys recsys
COPY retrieval retrieval
COPY ranking ranking
COPY serving serving
COPY pipelines pipelines
COPY gatectr gatectr
# TorchRec comes last and without its dependencies: with them pip would install the CUDA build of fbgemm.
ARG TORCH_INDEX=
RUN pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} '.[cpu,serve]' \
    && pip install --no-cache-dir --no-deps torchrec==1.8.0 \
    && gatectr version
WORKDIR /work
ENTRYPOINT ["gatectr"]
CMD ["--help"]
