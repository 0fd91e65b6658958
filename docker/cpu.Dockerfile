# An image of a checkout for machines without a GPU: docker build -f docker/cpu.Dockerfile -t gatectr .
# pip installs the larger CUDA build of torch unless PIP_EXTRA_INDEX_URL is the index with its CPU builds:
#   docker build -f docker/cpu.Dockerfile --build-arg PIP_EXTRA_INDEX_URL=URL -t gatectr .
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
ARG PIP_EXTRA_INDEX_URL
RUN pip install --no-cache-dir '.[cpu,serve]' \
    && pip install --no-cache-dir --no-deps torchrec==1.8.0 \
    && gatectr version
WORKDIR /work
ENTRYPOINT ["gatectr"]
CMD ["--help"]
