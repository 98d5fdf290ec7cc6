# One image with both halves: Debian's nginx with the module enabled, and the sidecar.
#
#   docker build -t headgate .
#   docker run headgate                                  the sidecar: headgate serve
#   docker run -p 8080:8080 -v …:/etc/nginx/nginx.conf headgate nginx -g 'daemon off;'
#
# Redis runs elsewhere. /etc/headgate holds what `headgate init` made; keep it in a volume.
FROM debian:12 AS build
WORKDIR /src
COPY scripts/install_deps.sh scripts/
RUN scripts/install_deps.sh build
COPY . .
RUN make build && make install DESTDIR=/out

FROM debian:12-slim
COPY scripts/install_deps.sh /tmp/scripts/
RUN /tmp/scripts/install_deps.sh runtime \
    && rm -rf /tmp/scripts /var/lib/apt/lists/* \
    && useradd --system --home-dir /var/lib/headgate --create-home headgate \
    && install -d -o headgate -g headgate -m 700 /etc/headgate
COPY --from=build /out/ /
RUN ln -s /usr/share/nginx/modules-available/mod-http-headgate.conf /etc/nginx/modules-enabled/50-mod-http-headgate.conf \
    && nginx -t
USER headgate
VOLUME ["/etc/headgate", "/var/lib/headgate"]
CMD ["headgate", "serve"]
