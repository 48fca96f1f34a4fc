"""A small Open WebUI: as much of its admin API as `arriero webui` uses, with accounts and rules.

The same tests run against it and against the real one, so what it gets wrong shows. It is made of
the standard library's server, in threads: nothing of it is shared with the product.
"""

import json
import secrets
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ADMIN = "admin@example.com"
PASSWORD = "pw-admin-123"

MODELS_KEYS = {
    "DEFAULT_MODELS": "ui.default_models",
    "DEFAULT_PINNED_MODELS": "ui.default_pinned_models",
    "MODEL_ORDER_LIST": "ui.model_order_list",
    "DEFAULT_MODEL_METADATA": "models.default_metadata",
    "DEFAULT_MODEL_PARAMS": "models.default_params",
}
OPENAI_KEYS = {
    "ENABLE_OPENAI_API": "openai.enable",
    "OPENAI_API_BASE_URLS": "openai.api_base_urls",
    "OPENAI_API_KEYS": "openai.api_keys",
    "OPENAI_API_CONFIGS": "openai.api_configs",
}


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass
class Account:
    id: str
    email: str
    password: str
    role: str
    token: str = field(default_factory=lambda: secrets.token_hex(16))


def first_config(ollama: str) -> dict[str, Any]:
    return {
        "ollama.enable": bool(ollama),
        "ollama.base_urls": [ollama],
        "ollama.api_configs": {},
        "openai.enable": False,
        "openai.api_keys": [""],
        "openai.api_base_urls": ["https://api.openai.com/v1"],
        "openai.api_configs": {},
        "ui.banners": [],
        "ui.default_models": None,
        "ui.default_pinned_models": None,
        "ui.model_order_list": [],
        "models.default_metadata": {},
        "models.default_params": {},
    }


@dataclass
class WebUI:
    """Its state; a call is a method and a path in `ROUTES`."""

    config: dict[str, Any]
    accounts: list[Account]
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    known: dict[str, tuple[int, str]] = field(default_factory=dict)
    seen_headers: list[dict[str, str]] = field(default_factory=list)
    faults: set[str] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)
    url: str = ""

    def keys(self, names: dict[str, str]) -> dict[str, Any]:
        return {name: self.config[key] for name, key in names.items()}

    def set_keys(self, names: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        for name, key in names.items():
            self.config[key] = body[name]
        return self.keys(names)

    def groups_of(self, account: Account) -> list[str]:
        return [group for group, members in self.members.items() if account.id in members]

    def may_use(self, account: Account, model: str) -> bool:
        if account.role == "admin":
            return True
        own = self.groups_of(account)
        grants = self.records.get(model, {}).get("access_grants", [])
        return any(
            g["principal_id"] in ("*", account.id)
            if g["principal_type"] == "user"
            else g["principal_id"] in own
            for g in grants
        )

    def connections(self) -> Iterator[tuple[int, str, str, dict[str, Any]]]:
        if not self.config["openai.enable"]:
            return
        for n, url in enumerate(self.config["openai.api_base_urls"]):
            own = self.config["openai.api_configs"].get(str(n), {})
            if own.get("enable", True):
                yield n, url, self.config["openai.api_keys"][n], own

    def refresh(self) -> None:
        self.known = {}
        for n, url, key, own in self.connections():
            try:
                listed = upstream("GET", f"{url}/models", key)
            except Refusal:
                continue
            for model in listed["data"]:
                prefix = own.get("prefix_id")
                self.known[f"{prefix}.{model['id']}" if prefix else model["id"]] = (n, model["id"])

    def grants(self, model: str, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {"id": secrets.token_hex(4), "resource_type": "model", "resource_id": model, **grant}
            for grant in wanted
        ]


def upstream(
    method: str, url: str, key: str, body: object = None, headers: dict[str, str] | None = None
) -> Any:
    own = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **(headers or {})}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, own, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as wrong:
        with wrong:
            raise Refusal(wrong.code, wrong.read().decode()) from wrong
    except OSError as wrong:
        raise Refusal(500, "Open WebUI: Server Connection Error") from wrong


class Handler(BaseHTTPRequestHandler):
    """Answers for the Open WebUI that `running` gives it."""

    webui: WebUI

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer("GET", None)

    def do_DELETE(self) -> None:
        self.answer("DELETE", None)

    def do_POST(self) -> None:
        self.answer("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, method: str, body: Any) -> None:
        try:
            with self.webui.lock:
                status, document = 200, self.route(method, body)
        except Refusal as refusal:
            status, document = refusal.status, {"detail": refusal.detail}
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def account(self) -> Account:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        for account in self.webui.accounts:
            if account.token == token:
                return account
        raise Refusal(401, "401 Unauthorized")

    def route(self, method: str, body: Any) -> Any:
        path = self.path.partition("?")[0]
        if path == "/api/version":
            return {"version": "0.12.4", "deployment_id": ""}
        if path == "/api/v1/auths/signin":
            return self.sign_in(body)
        account = self.account()
        if path in USER_PAGES:
            return USER_PAGES[path](self, account, body)
        if account.role != "admin":
            raise Refusal(401, "Access prohibited")
        if path.startswith("/api/v1/groups/"):
            return self.group(method, path.removeprefix("/api/v1/groups/"), body)
        call = f"{method} {path}"
        return ADMIN_CALLS[call](self, body) if call in ADMIN_CALLS else self.records(call, body)

    def sign_in(self, body: Any) -> Any:
        for account in self.webui.accounts:
            if (account.email, account.password) == (body["email"], body["password"]):
                return {"token": account.token, "role": account.role, "id": account.id}
        raise Refusal(400, "The email or password provided is incorrect.")

    def own_config(self, account: Account, _: Any) -> Any:
        defaults = [
            ",".join(self.webui.groups[group]["data"]["config"]["default_models"])
            for group in self.webui.groups_of(account)
        ]
        general = self.webui.config["ui.default_models"]
        return {"default_models": defaults[0] if defaults else general}

    def models(self, account: Account, _: Any) -> Any:
        self.webui.refresh()
        ids = [model for model in self.webui.known if self.webui.may_use(account, model)]
        return {"data": [{"id": model} for model in ids]}

    def chat(self, account: Account, body: Any) -> Any:
        if body["model"] not in self.webui.known or not self.webui.may_use(account, body["model"]):
            raise Refusal(400, "Model not found")
        if "chats_fail" in self.webui.faults:
            raise Refusal(500, "Open WebUI: Server Connection Error")
        n, alias = self.webui.known[body["model"]]
        url, key, own = next((u, k, c) for i, u, k, c in self.webui.connections() if i == n)
        values = {"{{USER_ID}}": account.id, "{{CHAT_ID}}": "", "{{TASK}}": ""}
        headers = {name: values.get(v, v) for name, v in own.get("headers", {}).items()}
        self.webui.seen_headers.append(headers)
        return upstream("POST", f"{url}/chat/completions", key, body | {"model": alias}, headers)

    def ollama(self, _: Any) -> Any:
        config = self.webui.config
        return {
            "ENABLE_OLLAMA_API": config["ollama.enable"],
            "OLLAMA_BASE_URLS": config["ollama.base_urls"],
            "OLLAMA_API_CONFIGS": config["ollama.api_configs"],
        }

    def update_openai(self, body: Any) -> Any:
        self.webui.known = {}
        return self.webui.set_keys(OPENAI_KEYS, body)

    def users(self, _: Any) -> Any:
        shown = [{"id": a.id, "email": a.email, "role": a.role} for a in self.webui.accounts]
        return {"users": shown, "total": len(shown)}

    def add_user(self, body: Any) -> Any:
        own = Account(secrets.token_hex(8), body["email"], body["password"], body["role"])
        self.webui.accounts.append(own)
        return {"id": own.id}

    def records(self, call: str, body: Any) -> Any:
        records = self.webui.records
        if call == "GET /api/v1/models/all":
            return list(records.values())
        if call == "POST /api/v1/models/create":
            if body["id"] in records:
                raise Refusal(401, "Uh-oh! This model id is already registered.")
            if "no_records" in self.webui.faults:
                raise Refusal(500, "database is locked")
            grants = self.webui.grants(body["id"], body["access_grants"])
            records[body["id"]] = body | {"access_grants": grants, "user_id": "admin"}
            return records[body["id"]]
        if body["id"] not in records:
            raise Refusal(401, "We could not find what you're looking for :/")
        if call == "POST /api/v1/models/model/access/update":
            grants = self.webui.grants(body["id"], body["access_grants"])
            records[body["id"]]["access_grants"] = grants
            return records[body["id"]]
        if call == "POST /api/v1/models/model/delete":
            return bool(records.pop(body["id"]))
        raise Refusal(404, "Not Found")

    def group(self, method: str, path: str, body: Any) -> Any:
        groups = self.webui.groups
        if (method, path) == ("GET", ""):
            return list(groups.values())
        if path == "create":
            return self.new_group(body)
        _, group, call = path.split("/", 2)
        if group not in groups:
            raise Refusal(404, "Not Found")
        if call == "delete":
            del groups[group], self.webui.members[group]
            return True
        if call == "update":
            groups[group] |= body
        return self.members(group, call, body)

    def members(self, group: str, call: str, body: Any) -> Any:
        members = self.webui.members[group]
        if call == "users/add":
            members |= set(body["user_ids"])
        if call == "users/remove":
            members -= set(body["user_ids"])
        own = self.webui.groups[group]
        return own | {"user_ids": sorted(members, reverse=True)} if call == "export" else own

    def new_group(self, body: Any) -> Any:
        own = secrets.token_hex(8)
        data = body["data"] or {}
        # The real one adds who may share with the group, too.
        config = {**data.get("config", {}), "share": "members"}
        self.webui.groups[own] = body | {"id": own, "data": {**data, "config": config}}
        self.webui.members[own] = set()
        return self.webui.groups[own]


USER_PAGES = {
    "/api/models": Handler.models,
    "/api/config": Handler.own_config,
    "/api/chat/completions": Handler.chat,
}
ADMIN_CALLS: dict[str, Callable[[Handler, Any], Any]] = {
    "GET /api/v1/configs/export": lambda own, _: own.webui.config,
    "GET /ollama/config": Handler.ollama,
    "GET /openai/config": lambda own, _: own.webui.keys(OPENAI_KEYS),
    "POST /openai/config/update": Handler.update_openai,
    "POST /openai/verify": lambda _, body: upstream("GET", f"{body['url']}/models", body["key"]),
    "GET /api/v1/configs/models": lambda own, _: own.webui.keys(MODELS_KEYS),
    "POST /api/v1/configs/models": lambda own, body: own.webui.set_keys(MODELS_KEYS, body),
    "GET /api/v1/users/all": Handler.users,
    "POST /api/v1/auths/add": Handler.add_user,
}


@contextmanager
def running(ollama: str = "") -> Iterator[WebUI]:
    """Serve a simulated Open WebUI on a free port of this machine while the block runs."""
    admin = Account("admin", ADMIN, PASSWORD, "admin")
    webui = WebUI(first_config(ollama), [admin])
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"webui": webui}))
    server.daemon_threads = False
    webui.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield webui
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
