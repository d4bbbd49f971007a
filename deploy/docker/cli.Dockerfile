# The image of the command `bursar`: it makes bundles and streams (`bursar deploy`), adds agents, shows `bursar top`.
# Build it from the root of the repository:
#
#   docker build -f deploy/docker/cli.Dockerfile -t bursar/cli .

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
COPY requirements/cli.txt requirements/
RUN tools/bin/pip --python /opt/bursar/bin/python3 install --no-cache-dir --no-deps --require-hashes \
      --only-binary :all: -r requirements/cli.txt

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 bursar && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin bursar \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/bursar
COPY --from=build /opt/bursar /opt/bursar
ENV PATH=/opt/bursar/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 BURSAR_HOME=/var/lib/bursar \
    BURSAR_TLS_CA=/etc/bursar/ca.pem BURSAR_TLS_CERT=/etc/bursar/cert.pem BURSAR_TLS_KEY=/etc/bursar/key.pem
USER 10001:10001
ENTRYPOINT ["bursar"]
