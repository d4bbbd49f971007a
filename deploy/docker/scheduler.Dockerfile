# The image of the service scheduler. Multi-stage: nothing of the build is in the result, which runs as nobody in
# particular, on a root file system that may be read-only. Build it from the root of the repository:
#
#   docker build -f deploy/docker/scheduler.Dockerfile -t bursar/scheduler .
#
# What the process is told are environment variables, see `docker run --rm bursar/scheduler --help`. It expects its keys
# and certificates in /etc/bursar (`bursar deploy bundle`), and keeps the highest fence it knows in /var/lib/bursar.

FROM python:3.11-slim-bookworm AS build
WORKDIR /build
# What builds wheels, and what all images have: the same layers for each of them.
COPY requirements/build.txt requirements/shared.txt requirements/
RUN python3 -m venv tools && tools/bin/pip install --no-cache-dir --no-deps --require-hashes \
      --only-binary :all: -r requirements/build.txt
RUN python3 -m venv --without-pip /opt/bursar \
 && tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --require-hashes \
      --only-binary :all: --no-binary nkeys -r requirements/shared.txt -w wheels \
 && tools/bin/pip --python /opt/bursar/bin/python3 install --no-cache-dir --no-deps --no-index wheels/*.whl
COPY shared shared
RUN tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --no-index ./shared -w shared/dist \
 && tools/bin/pip --python /opt/bursar/bin/python3 install --no-cache-dir --no-deps --no-index shared/dist/*.whl
COPY requirements/scheduler.txt requirements/
COPY services/scheduler services/scheduler
RUN tools/bin/pip --python /opt/bursar/bin/python3 install --no-cache-dir --no-deps --require-hashes \
      --only-binary :all: -r requirements/scheduler.txt \
 && tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --no-index ./services/scheduler -w dist \
 && tools/bin/pip --python /opt/bursar/bin/python3 install --no-cache-dir --no-deps --no-index dist/*.whl

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 bursar && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin bursar \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/bursar
COPY --from=build /opt/bursar /opt/bursar
ENV PATH=/opt/bursar/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    BURSAR_CREDS=/etc/bursar/service.creds BURSAR_LOG_CREDS=/etc/bursar/log.creds BURSAR_KEYS_DIR=/etc/bursar \
    BURSAR_TLS_CA=/etc/bursar/ca.pem BURSAR_TLS_CERT=/etc/bursar/cert.pem BURSAR_TLS_KEY=/etc/bursar/key.pem \
    BURSAR_DATA_DIR=/var/lib/bursar BURSAR_HEALTH_HOST=0.0.0.0 BURSAR_HEALTH_PORT=8080 \
    BURSAR_AUDIT=true \
    BURSAR_PRINCIPAL_RATE=500
USER 10001:10001
EXPOSE 8080
# The process itself says whether it serves: connected, and owner of its journal or ready to take over.
HEALTHCHECK --interval=5s --timeout=4s --start-period=20s --retries=3 CMD ["python3", "-ISc", "import socket, sys\ns = socket.create_connection(('127.0.0.1', 8080), 3)\ns.sendall(b'GET /readyz HTTP/1.0\\r\\n\\r\\n')\nsys.exit(b' 200 ' not in s.recv(64))"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["bursar-scheduler"]
