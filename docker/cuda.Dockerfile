# An image of a checkout for machines with a CUDA GPU: docker build -f docker/cuda.Dockerfile -t gatectr-cuda .
# torch's wheel brings the CUDA libraries; the host needs NVIDIA's driver and container toolkit (docker run --gpus all).
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev libgomp1 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE constraints.txt ./
COPY configs configs
COPY recsys recsys
COPY retrieval retrieval
COPY ranking ranking
COPY serving serving
COPY pipelines pipelines
COPY gatectr gatectr
RUN pip install --no-cache-dir '.[gpu]' && gatectr version
WORKDIR /work
ENTRYPOINT ["gatectr"]
CMD ["--help"]
