# The server and its pages. From the top of a checkout:
#   docker build -f deploy/docker/server.Dockerfile -t dtrain-server .
FROM python:3.12-slim AS build
RUN python -m venv /opt/dtrain
WORKDIR /source
COPY . .
RUN /opt/dtrain/bin/pip install --no-cache-dir '.[server]' ./frontend

FROM python:3.12-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home --home-dir /srv/dtrain dtrain \
    && install --directory --owner dtrain --group dtrain /srv/dtrain/data
COPY --from=build /opt/dtrain /opt/dtrain
ENV PATH=/opt/dtrain/bin:$PATH DTRAIN_HOST=0.0.0.0
USER dtrain
WORKDIR /srv/dtrain
VOLUME /srv/dtrain/data
EXPOSE 5000
# tini passes the stop on, and takes care of orphans.
ENTRYPOINT ["tini", "--"]
CMD ["dtrain", "server", "/srv/dtrain"]
