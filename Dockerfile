# The same two steps as `make serve`, on a small image, as a user without rights, on CPU-only torch.
# docker build --build-arg EXTRAS=ray …   with an extra of pyproject.toml, or several: EXTRAS=postgres,ray
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    HF_HUB_OFFLINE=1 \
    LOREBASE_HOST=0.0.0.0 \
    LOREBASE_DATA=/data

WORKDIR /srv/lorebase
ARG EXTRAS=
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY app app
COPY ingest ingest
COPY adapters adapters
RUN case ",$EXTRAS," in *,ray,*) apt-get update && apt-get install --yes --no-install-recommends wget \
 && rm -rf /var/lib/apt/lists/*;; esac
RUN pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu \
 && pip install --constraint constraints.txt ".${EXTRAS:+[$EXTRAS]}" \
 && useradd --system --uid 10001 lorebase \
 && install -d -o lorebase /data

USER 10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
STOPSIGNAL SIGTERM
CMD ["lorebase", "serve"]
