# polygen-stream on a CPU: the micro preset, the tests, exports and reports. This file has not been built by its authors.
#
#   docker build -t polygen-stream .
#   docker build -t polygen-stream --build-arg TORCH_INDEX=URL .      # from an index that has CPU builds of torch: 4 GB smaller
#   docker run --rm -v "$PWD/runs:/workspace/runs" polygen-stream run --train.steps 200
FROM python:3.11-slim
ARG TORCH_INDEX=""
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 user && mkdir /workspace && chown user /workspace
WORKDIR /opt/polygen-stream
COPY --chown=user . .
RUN python tools/install_torch.py --index "$TORCH_INDEX" && pip install --no-cache-dir -e '.[evaluate,export,openvino,simulate]'
USER user
# Engines of the micro preset; without them renderers run eager.
RUN polygen-stream build-engines
WORKDIR /workspace
ENTRYPOINT ["polygen-stream"]
CMD ["run"]
