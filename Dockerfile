# syntax=docker/dockerfile:1
# XiaoZhi Hub for amd64 and arm64.
#
#   docker build -t xiaozhi-hub .
#   docker run -d --name xiaozhi-hub --network host -v xiaozhi-config:/config xiaozhi-hub
#
# --network host lets devices find the hub by name (mDNS does not cross Docker's own networks). Without it, publish the
# ports (-p 8003:8003 -p 8000:8000) and type the OTA URL with the address of this machine into the devices.

FROM python:3.12-slim AS build
WORKDIR /source
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/hub
COPY . .
# The wheel, not the checkout, is what runs: it is complete and cannot be written by the hub.
RUN pip wheel --no-deps --wheel-dir /wheel . \
    && /opt/hub/bin/pip install "$(echo /wheel/*.whl)[voice]"

FROM python:3.12-slim
LABEL org.opencontainers.image.title="XiaoZhi Hub" \
      org.opencontainers.image.description="An offline-first voice hub for the home" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-3.0-or-later"
RUN useradd --system --uid 1000 --create-home --home-dir /home/hub hub \
    && install -d -o hub -g hub /config
COPY --from=build /opt/hub /opt/hub
ENV PATH=/opt/hub/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER hub
WORKDIR /home/hub
VOLUME /config
EXPOSE 8003 8000
# "starting" is an answer too: only a hub that does not answer at all, or says that it is unwell, is unhealthy.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import json, sys, urllib.request as r; sys.exit(json.load(r.urlopen('http://127.0.0.1:8003/health', timeout=4)).get('status') not in ('healthy', 'starting', 'degraded'))"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["xiaozhi-hub"]
CMD ["run", "--config", "/config"]
