# A worker, whose jobs run in environments of their own inside this container. From the top of a checkout:
#   docker build -f deploy/docker/worker.Dockerfile -t dtrain-worker .
FROM python:3.12-slim AS build
RUN python -m venv /opt/dtrain
WORKDIR /source
COPY . .
RUN /opt/dtrain/bin/pip install --no-cache-dir .

FROM python:3.12-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home --home-dir /srv/dtrain dtrain \
    && install --directory --owner dtrain --group dtrain /srv/dtrain/data
COPY --from=build /opt/dtrain /opt/dtrain
ENV PATH=/opt/dtrain/bin:$PATH
USER dtrain
WORKDIR /srv/dtrain
VOLUME /srv/dtrain/data
# tini passes the stop on, and takes care of orphans. Jobs are handed back within its time.
ENTRYPOINT ["tini", "--"]
CMD ["dtrain", "worker", "/srv/dtrain"]
