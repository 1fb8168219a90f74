# scupper alone, static, as a user who is not root:
#
#   docker build -t scupper .
#   docker run --rm scupper doctor
#
# A server is judged where it can be started: put what it needs on top, and scupper beside it.
#
#   FROM node:22-bookworm-slim
#   COPY --from=scupper /usr/local/bin/scupper /usr/local/bin/scupper
#
# In a container without CAP_SYS_ADMIN orphans are held by a subreaper; the verdicts are the same.
FROM rust:1.88-slim-bookworm AS build
WORKDIR /source
RUN rustup target add "$(uname -m)-unknown-linux-musl"
COPY . .
RUN cargo build --release --locked -p harness --no-default-features --target "$(uname -m)-unknown-linux-musl" \
  && cp "target/$(uname -m)-unknown-linux-musl/release/scupper" /scupper \
  && strip --strip-debug /scupper

# It has a shell, which the examples for engines need.
FROM debian:bookworm-slim
COPY --from=build /scupper /usr/local/bin/scupper
# A number, so that an engine can see that it is not root.
USER 10001:10001
WORKDIR /tmp
HEALTHCHECK NONE
ENTRYPOINT ["scupper"]
CMD ["--help"]
