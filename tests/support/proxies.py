"""The reverse proxies of `deploy/`, run for real with their shipped configuration."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from pathlib import Path

from .certificate import Authority
from .checks import ROOT
from .processes import Running, clean_environment, free_port, wait_for
from .requirements import require

_NGINX = """\
daemon off;
master_process on;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/answers;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/dtrain.conf;
}}
"""
_CADDY = """\
{{
	admin off
	http_port {plain}
	storage file_system {folder}/storage
}}
"""


class Proxy(Running):
    """nginx or Caddy as shipped; only ports, certificate and name are those of the test."""

    def __init__(self, kind: str, folder: Path, *upstreams: int) -> None:
        folder.mkdir()
        self.port, self.plain_port, self.home = free_port(), free_port(), folder
        self.url = f"https://127.0.0.1:{self.port}"
        authority = Authority(folder / "authority")
        self.ca = authority.file
        self._certificate = authority.sign("127.0.0.1")
        program = require(kind)
        command = self._nginx(program, upstreams) if kind == "nginx" else self._caddy(upstreams)
        environment = clean_environment() | {"HOME": str(folder)}
        super().__init__(kind, command, folder, environment)
        wait_for(lambda: not self.alive or self._answers(), f"{kind} to answer")
        assert self.alive, self.text()

    def _nginx(self, program: Path, upstreams: tuple[int, ...]) -> list[str]:
        shipped = (ROOT / "deploy" / "nginx" / "dtrain.conf").read_text()
        replaced = {
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "listen [::]:80;": "",
            "listen 443 ": f"listen 127.0.0.1:{self.port} ",
            "listen [::]:443 ssl http2;": "",
            "server 127.0.0.1:5000;": " ".join(f"server 127.0.0.1:{port};" for port in upstreams),
            "/etc/ssl/dtrain/fullchain.pem": str(self._certificate.chain),
            "/etc/ssl/dtrain/privkey.pem": str(self._certificate.key),
        }
        (self.home / "dtrain.conf").write_text(_replaced(shipped, replaced))
        as_root = "user root;" if self.home.owner() == "root" else ""
        main = self.home / "nginx.conf"
        main.write_text(_NGINX.format(folder=self.home, user=as_root))
        return [str(program), "-p", str(self.home), "-e", f"{self.home}/error.log", "-c", str(main)]

    def _caddy(self, upstreams: tuple[int, ...]) -> list[str]:
        shipped = (ROOT / "deploy" / "caddy" / "Caddyfile").read_text()
        replaced = {
            "\ndtrain.example {": f"\n127.0.0.1:{self.port} {{",
            "# tls /etc/ssl/dtrain/fullchain.pem /etc/ssl/dtrain/privkey.pem": (
                f"tls {self._certificate.chain} {self._certificate.key}"
            ),
            "127.0.0.1:5000": " ".join(f"127.0.0.1:{port}" for port in upstreams),
        }
        main = self.home / "Caddyfile"
        head = _CADDY.format(plain=self.plain_port, folder=self.home)
        main.write_text(head + _replaced(shipped, replaced))
        return ["caddy", "run", "--config", str(main), "--adapter", "caddyfile"]

    def _answers(self) -> bool:
        trusted = ssl.create_default_context(cafile=str(self.ca))
        try:
            urllib.request.urlopen(f"{self.url}/healthz", context=trusted, timeout=30).close()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return True


def _replaced(text: str, replaced: dict[str, str]) -> str:
    for old, new in replaced.items():
        assert old in text, f"{old!r} is no longer in the shipped configuration"
        text = text.replace(old, new)
    return text
