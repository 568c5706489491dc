# The program in a small image. Mount the folder of run files and runs at /work:
#
#   docker build -t pocketgpt .
#   docker run --rm -v "$PWD:/work" pocketgpt run --config configs/quickstart.toml
FROM node:22-bookworm-slim AS app
WORKDIR /src
COPY bundle/app bundle/app
RUN cd bundle/app && npm ci --no-audit --no-fund && npm run build

FROM rust:1.95-bookworm AS build
RUN apt-get update -q && apt-get install -y -q cmake g++ libclang-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
COPY --from=app /src/bundle/app/dist bundle/app/dist
RUN cargo build --release --locked -p pocketgpt && strip target/release/pocketgpt

FROM debian:bookworm-slim
RUN apt-get update -q && apt-get install -y -q libstdc++6 && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/release/pocketgpt /usr/local/bin/pocketgpt
RUN pocketgpt links /usr/local/bin && useradd --create-home user
USER user
WORKDIR /work
ENTRYPOINT ["pocketgpt"]
