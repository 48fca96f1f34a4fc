"""A script that LiteLLM's users would write runs against this gateway as it is."""

import asyncio
import os
import sys
from pathlib import Path

from tests.admin.conftest import Api
from tests.server.client import KEY

SCRIPT = Path(__file__).parent / "litellm_script.py"


async def test_it_runs_unchanged(api: Api) -> None:
    own = {
        "PROXY_BASE_URL": f"http://127.0.0.1:{api.running.port}",
        "LITELLM_MASTER_KEY": KEY,
        "MODEL": "llama",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        env={**os.environ, **own},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
