"""What stands between a host and the gateway, as findings of the form that hx_evidence tells."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Finding = dict[str, str]
Facts = Mapping[str, Any]

ENGINES = ("arriero", "litellm")
KEY_LENGTH_MIN = 20
PYTHON_MIN = (3, 11)
SECCOMP_FILTER = 2  # proc(5)
SYSTEMD_MIN = 250  # of LoadCredentialEncrypted=
PLACEHOLDERS = ("redact", "replace", "example", "changeme", "change-me", "your-", "your_")
URL = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+\Z")
VAULT_HEAD = "$ANSIBLE_VAULT;"


def _finding(check: str, problem: str, expected: str, mend: str, found: str = "") -> Finding:
    """Return a finding that fails when there is a problem, which is then what was found."""
    verdict = "fail" if problem else "pass"
    found = problem or found or expected
    return {"check": check, "verdict": verdict, "expected": expected, "found": found, "mend": mend}


# -- what the variables say


def variables(wanted: Mapping[str, Any]) -> list[Finding]:
    """Judge the variables alone: `engine`, `version`, `refused`, `minimum`, `backends`, `models`.

    And `base_url`, `port`, `release` (of the wheelhouse; empty when there is none), `wheels`.
    """
    return [
        _engine(wanted),
        _release(wanted),
        _backends(wanted["backends"]),
        _models(wanted["models"]),
        _base_url(wanted),
    ]


def _engine(wanted: Mapping[str, Any]) -> Finding:
    engine, version = str(wanted["engine"]), str(wanted["version"])
    problem = ""
    if engine not in ENGINES:
        problem = engine or "nothing"
    elif not re.fullmatch(r"[0-9]+\.[0-9]+[0-9A-Za-z.+]*", version):
        problem = f"version {version or 'none'}"
    elif engine == "litellm" and version in wanted["refused"]:
        problem = f"LiteLLM {version}, a compromised release"
    elif engine == "litellm" and _numbers(version) < _numbers(wanted["minimum"]):
        problem = f"LiteLLM {version}, which strangers can enter"
    expected = f"{' or '.join(ENGINES)}; of LiteLLM {wanted['minimum']} or later"
    mend = "gateway_engine, arriero_version and litellm_version in group_vars/all/main.yml"
    return _finding("engine", problem, expected, mend, f"{engine} {version}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _release(wanted: Mapping[str, Any]) -> Finding:
    release, version = str(wanted["release"]), str(wanted["version"])
    problem = ""
    if not release:
        problem = f"no release at {wanted['wheels']}"
    elif release.rpartition("-")[0] != version:
        problem = f"{release}, which is another version"
    mend = f"scripts/wheelhouse --engine {wanted['engine']}"
    return _finding("wheelhouse", problem, f"wheels of {version}", mend, release)


def _backends(backends: Iterable[Any]) -> Finding:
    urls = [str(url) for url in backends]
    problem = "" if urls else "none"
    for url in urls:
        if not URL.match(url):
            problem = f"{url!r}, which is no address"
    if len(set(urls)) < len(urls):
        problem = "one of them twice"
    mend = "litellm_backends in group_vars/all/main.yml: a list of addresses without a path"
    return _finding(
        "backends named", problem, "http://HOST:11434, each once", mend, ", ".join(urls)
    )


def _models(models: Iterable[Mapping[str, Any]]) -> Finding:
    listed = list(models)
    names = [str(model.get("name", "")) for model in listed]
    problem = "" if listed else "none"
    for model in listed:
        if not model.get("name") or not model.get("model"):
            problem = f"{dict(model)}, without a name or a model"
        elif model.get("provider", "ollama") != "ollama":
            problem = f"{model['name']} of {model['provider']}"
    if len(set(names)) < len(names):
        problem = "one name twice"
    mend = "litellm_models in group_vars/all/main.yml: name, provider: ollama, model"
    return _finding("aliases named", problem, "aliases of Ollama models", mend, ", ".join(names))


def _base_url(wanted: Mapping[str, Any]) -> Finding:
    url, port = str(wanted["base_url"]), int(wanted["port"])
    found = re.search(r":(\d+)(/|$)", url.partition("://")[2])
    implied = 443 if url.startswith("https://") else 80
    problem = ""
    if (int(found.group(1)) if found else implied) != port:
        problem = f"{url}, but the service listens on {port}"
    mend = "litellm_base_url and litellm_bind_port in group_vars/all/main.yml"
    return _finding("base URL", problem, f"an address with port {port}", mend, url)


def key(value: Any, vault_head: str | None) -> list[Finding]:
    """Judge the master key and the file it comes from (None: there is no file); no key is shown."""
    text = value if isinstance(value, str) else ""
    problem = ""
    if not text:
        problem = "no litellm_master_key"
    elif any(word in text.lower() for word in PLACEHOLDERS):
        problem = "a placeholder"
    elif len(text) < KEY_LENGTH_MIN:
        problem = f"{len(text)} characters"
    elif not all("!" <= character <= "~" for character in text):
        problem = "characters that an HTTP header cannot carry"
    weak = _finding(
        "master key",
        problem,
        f"{KEY_LENGTH_MIN} printable characters or more",
        "openssl rand -hex 24, and put it as litellm_master_key into the vault with "
        "`ansible-vault edit group_vars/all/vault.yml` (vault.example.yml shows how)",
        f"{len(text)} characters",
    )
    problem = "plain text" if vault_head is not None and vault_head != VAULT_HEAD else ""
    if vault_head is None and not text:
        problem = "no file"
    vault = _finding(
        "vault",
        problem,
        "an encrypted group_vars/all/vault.yml",
        "ansible-vault create (or encrypt) group_vars/all/vault.yml; a key that stood there in "
        "plain text must be replaced, too",
        "encrypted" if vault_head is not None else "the key comes from elsewhere",
    )
    return [vault, weak]


# -- what the host says


def host(facts: Facts, wanted: Mapping[str, Any]) -> list[Finding]:
    """Judge the host: `python`, `disk_free_min_mb`, `port`, `required`, `models`."""
    return [
        _python(facts, wanted["python"]),
        _systemd(facts),
        _disk(facts, int(wanted["disk_free_min_mb"])),
        _port(facts, int(wanted["port"])),
        *_answering(facts["backends"], wanted),
    ]


def _python(facts: Facts, name: str) -> Finding:
    python = facts["python"]
    problem = ""
    if not python["version"]:
        problem = "not installed"
    elif _numbers(python["version"])[:2] < PYTHON_MIN:
        problem = str(python["version"])
    elif not python["venv"]:
        problem = f"{python['version']} without venv"
    expected = f"{name} with venv, 3.11 or later"
    mend = f"the preflight installs it: playbooks/preflight.yml (apt install {name}-venv)"
    return _finding("Python", problem, expected, mend, str(python["version"]))


def _systemd(facts: Facts) -> Finding:
    version = int(facts["systemd"])
    problem = "" if version >= SYSTEMD_MIN else str(version or "none")
    expected = f"systemd {SYSTEMD_MIN} or later"
    return _finding("systemd", problem, expected, "Debian 12 or Ubuntu 24.04", str(version))


def _disk(facts: Facts, least_mb: int) -> Finding:
    free_mb = int(facts["disk_free_mb"])
    problem = "" if free_mb >= least_mb else f"{free_mb} MB"
    mend = "make room under /opt, for example by removing old releases there"
    return _finding("disk", problem, f"{least_mb} MB free", mend, f"{free_mb} MB free")


def _port(facts: Facts, port: int) -> Finding:
    ours = "active" in (facts["unit"], facts["socket"])
    problem = "" if ours or not facts["listeners"] else str(facts["listeners"])
    found = "ours" if facts["listeners"] else "free"
    mend = "stop that program, or choose another litellm_bind_port"
    return _finding("port", problem, f"{port} free, or ours", mend, found)


def _answering(backends: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Finding]:
    findings = [_backend(url, seen, wanted["models"]) for url, seen in backends.items()]
    if wanted["required"] == "any" and any(finding["verdict"] == "pass" for finding in findings):
        return [{**finding, "verdict": _lenient(finding["verdict"])} for finding in findings]
    return findings


def _lenient(verdict: str) -> str:
    return "pending" if verdict == "fail" else verdict


def _backend(url: str, seen: Mapping[str, Any], models: Iterable[Mapping[str, Any]]) -> Finding:
    installed = {_tagged(name) for name in seen["models"]}
    missing = sorted({_tagged(str(model["model"])) for model in models} - installed)
    problem = str(seen["error"])
    mend = f"curl {url}/api/tags from the gateway's host; playbooks/backends.yml sets it up"
    if not problem and missing:
        problem = f"without {', '.join(missing)}"
        mend = f"ollama pull {missing[0]} there (playbooks/backends.yml), or mend litellm_models"
    found = f"{len(installed)} models"
    return _finding(f"backend {url}", problem, "answers, with all aliases' models", mend, found)


def _tagged(name: str) -> str:
    """Return the model's full name; Ollama reads one without a tag as `latest`."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


# -- what the running process is


def confinement(
    seen: Facts, exposure_max: float, master_key: str, journal: str, places: Sequence[str] = ()
) -> list[Finding]:
    """Judge the process that runs, as files/confinement.py saw it; it may write to `places`."""
    beyond = ", ".join(place for place in seen["writable"] if place not in places)
    expected = f"nothing writable but {', '.join(places)}" if places else "nothing writable"
    held = sorted(name for name, bits in seen["capabilities"].items() if int(bits, 16))
    told = [
        where
        for where, text in (("the command line", seen["command"]), ("the journal", journal))
        if master_key in text
    ]
    unit = "the unit in roles/hx_litellm_proxy/templates, and drop-ins (systemctl cat)"
    facts = (
        ("user", "root" if seen["uid"] == 0 else "", "not root", f"uid {seen['uid']}"),
        ("capabilities", ", ".join(held), "none", "none"),
        ("new privileges", "" if seen["no_new_privileges"] else "possible", "impossible", ""),
        ("system calls", "" if seen["seccomp"] == SECCOMP_FILTER else "all", "filtered", ""),
        ("file system", beyond, expected, ", ".join(places)),
        ("homes", ", ".join(seen["home"]), "invisible", ""),
        ("devices", ", ".join(seen["devices"]), "no disks, no memory", ""),
        ("master key", " and ".join(told), "told nowhere", ""),
        (
            "exposure",
            "" if seen["exposure"] <= exposure_max else str(seen["exposure"]),
            f"{exposure_max} or less",
            str(seen["exposure"]),
        ),
    )
    return [
        _finding(check, problem, expected, unit, found) for check, problem, expected, found in facts
    ]


def prunable(
    files: Iterable[Mapping[str, Any]], kept: int, spared: Iterable[str] = ()
) -> list[str]:
    """Return the paths of what the find module found beyond the `kept` newest and those spared."""
    others = [file for file in files if str(file["path"]).rpartition("/")[2] not in set(spared)]
    newest_first = sorted(others, key=lambda file: float(file["mtime"]), reverse=True)
    return [str(file["path"]) for file in newest_first[int(kept) :]]


def backups(files: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the paths of Ansible's backups, the newest first: config.yaml.PID.DATE@TIME~.

    The time of their last change is that of the file when it was in use, so that the name counts.
    """
    paths = [str(file["path"]) for file in files]
    return sorted(paths, key=lambda path: re.findall(r"\.([0-9-]+@[0-9:]+)~\Z", path), reverse=True)


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "hx_gateway_variables": variables,
            "hx_gateway_key": key,
            "hx_gateway_host": host,
            "hx_gateway_confinement": confinement,
            "hx_gateway_prunable": prunable,
            "hx_gateway_backups": backups,
        }
