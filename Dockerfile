# se_nas with what retraining, export and workers on PostgreSQL need, for a user who is not root.
#   docker build --tag se-nas:0.2.0 .
# PyPI's wheels of PyTorch for Linux on x86 bring CUDA; an index of others, such as that for CPUs, is TORCH_INDEX:
#   docker build --tag se-nas:0.2.0-cpu --build-arg TORCH_INDEX=URL .
#   docker run --rm --gpus all --volume "$PWD/out:/runs" se-nas:0.2.0 search digits --out digits
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
WORKDIR /src
RUN python -m venv /opt/se_nas
ENV PATH=/opt/se_nas/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt ./
# first and alone: the largest layer changes the least
ARG TORCH_INDEX=""
RUN pip install --constraint constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY se_nas se_nas
COPY search_spaces search_spaces
COPY runs runs
ARG EXTRAS=export,postgresql
RUN pip install --constraint constraints.txt ".[$EXTRAS]"

FROM python:${PYTHON}-slim
RUN useradd --uid 1000 --create-home se_nas && install --directory --owner=se_nas /runs
COPY --from=build /opt/se_nas /opt/se_nas
ENV PATH=/opt/se_nas/bin:$PATH PYTHONUNBUFFERED=1
USER 1000
WORKDIR /runs
ENTRYPOINT ["se-nas"]
CMD ["--help"]
