"""The real Open WebUI as a service, with both Ollama hosts as its direct providers."""

import secrets
from pathlib import Path

from lab.files import enable, put
from lab.hosts import DOMAIN, LLM01, LLM02

VENV = "/opt/open-webui"
LOCKS = ("open-webui.txt", "open-webui-app.txt")
ADMIN = f"admin@{DOMAIN}"
STATE = "/var/lib/open-webui"

UNIT = f"""\
[Unit]
Description=Open WebUI
After=network-online.target

[Service]
User=open-webui
Group=open-webui
StateDirectory=open-webui
WorkingDirectory={STATE}
EnvironmentFile=/etc/open-webui.env
ExecStart={VENV}/bin/open-webui serve --host 0.0.0.0 --port 8080
Restart=on-failure

[Install]
WantedBy=multi-user.target
"""
# As a slim container would have it: no speech, no local embeddings, no look for newer versions.
ENVIRONMENT = f"""\
USE_SLIM_DOCKER=true
OFFLINE_MODE=true
ENABLE_VERSION_UPDATE_CHECK=false
DATA_DIR={STATE}/data
STATIC_DIR={STATE}/static
HOME={STATE}
ENABLE_OLLAMA_API=true
OLLAMA_BASE_URLS=http://{LLM01.fqdn}:11434;http://{LLM02.fqdn}:11434
ENABLE_OPENAI_API=false
ENABLE_TITLE_GENERATION=false
ENABLE_TAGS_GENERATION=false
ENABLE_FOLLOW_UP_GENERATION=false
RAG_EMBEDDING_ENGINE=openai
WEBUI_ADMIN_EMAIL={ADMIN}
"""


def lay(root: Path, keys: Path) -> None:
    """Lay the service into a host's root; the administrator's password is made in `keys`."""
    password = keys / "webui-password"
    password.touch(mode=0o600)
    password.write_text(secrets.token_hex(12), encoding="utf-8")
    secret = f"WEBUI_SECRET_KEY={secrets.token_hex(24)}\n"
    admin = f"WEBUI_ADMIN_PASSWORD={password.read_text(encoding='utf-8')}\n"
    put(root, "/etc/open-webui.env", ENVIRONMENT + secret + admin, 0o600)
    (root / STATE.lstrip("/") / "data").mkdir(parents=True)
    put(root, "/etc/systemd/system/open-webui.service", UNIT)
    put(root, "/etc/tmpfiles.d/open-webui.conf", f"Z {STATE} - open-webui open-webui\n")
    enable(root, "open-webui.service")
