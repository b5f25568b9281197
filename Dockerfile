# bootbuild in a container: docker run --rm -v "$PWD:/work" IMAGE recipe.toml
# No RUN but pip and packaging/container.sh, which tests/packaging executes without a container.

FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY . .
# Both, since pip 25.3 no longer lets the first constrain the build backend.
ENV PIP_CONSTRAINT=/source/constraints.txt PIP_BUILD_CONSTRAINT=/source/constraints.txt
RUN ["python3", "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "/wheel", "."]
RUN ["sh", "packaging/container.sh", "/wheel", "constraints.txt", "/opt/bootbuild"]

FROM python:3.11-slim-bookworm
COPY --from=build /opt/bootbuild /opt/bootbuild
USER 65534:65534
WORKDIR /work
ENTRYPOINT ["/opt/bootbuild/bin/bootbuild"]
