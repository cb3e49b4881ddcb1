# The server of BLINK, without PyTorch: docker build -t blink . && docker run --rm -p 8765:8765 blink
# The starter is encoded while the image is built, so that a container answers after a second.
FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
RUN useradd --create-home --uid 10001 blink
# The wheel is mounted, not copied: a copy would stay in the image.
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(ls /wheels/*.whl)[serve]"
# The folders belong to the user, so that entities can be added; their files, which would be stored twice, stay as they are.
RUN starter="$(python -c 'import blink, pathlib; print(pathlib.Path(blink.__file__).parent / "starter")')" \
    && blink link "Mozart met Beethoven in Vienna." \
    && chown blink "$starter" "$starter/starter" "$starter/starter-kb"
USER blink
WORKDIR /home/blink
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8765/healthz', timeout=4)"]
ENTRYPOINT ["blink"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8765"]
