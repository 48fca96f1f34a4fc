"""`arriero webui` as it is called, with the environment of one Open WebUI and one gateway."""

import json
from pathlib import Path
from typing import Any

from tests.cli.processes import KEY
from tests.webui.fake_openwebui import PASSWORD
from tests.webui.site import Site
from typer.testing import CliRunner

from arriero.cli.main import app


class Command:
    """Call it with the words after `webui`."""

    def __init__(self, site: Site, gateway: str, folder: Path) -> None:
        self.snapshot = folder / "before.json"
        self.environment = {
            "ARRIERO_API_KEY": KEY,
            "ARRIERO_URL": gateway,
            "ARRIERO_WEBUI_TOKEN": site.token(),
            "ARRIERO_WEBUI_URL": site.url,
            "NO_COLOR": "1",
        }

    def __call__(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run it with --json; returns the document, and what it said under `words`."""
        own = ["webui", *words, "--snapshot", str(self.snapshot), "--json"]
        result = CliRunner().invoke(app, own, env=self.environment)
        said = f"{result.stdout}\n{result.stderr}\n{result.exception}"
        assert result.exit_code == code, said
        assert KEY not in said
        assert PASSWORD not in said
        document: dict[str, Any] = json.loads(result.stdout) if result.stdout else {}
        return document | {"words": result.stderr}
