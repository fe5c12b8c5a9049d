# docker build -t ofmu-jax .                            # for the CPU
# docker build -t ofmu-jax --build-arg EXTRA=cuda13 .   # for NVIDIA GPUs; or cuda12
# docker run --rm -v "$PWD/runs:/work/runs" ofmu-jax run demo       # GPUs: --gpus all
# JAX's own wheels bring CUDA, so that the host needs a driver and nothing else.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir build==1.6.1 && python -m build --wheel

FROM python:${PYTHON}-slim
ARG EXTRA=""
COPY --from=wheel /source/dist/*.whl /tmp/
RUN pip install --no-cache-dir "$(echo /tmp/*.whl)${EXTRA:+[$EXTRA]}" \
    && rm /tmp/*.whl \
    && useradd --create-home --uid 1000 user \
    && mkdir --parents /work/runs \
    && chown --recursive user /work
USER 1000
WORKDIR /work
ENTRYPOINT ["ofmu-jax"]
CMD ["--help"]
