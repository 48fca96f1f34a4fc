"""What LiteLLM's users run against its key API runs against this gateway as it is."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from tests.admin.conftest import Api
from tests.server.client import KEY

FOLDER = Path(__file__).parent


async def run(api: Api, python: str, script: str) -> None:
    own = {
        "PROXY_BASE_URL": f"http://127.0.0.1:{api.running.port}",
        "LITELLM_MASTER_KEY": KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or it looks for prices on the network
        "MODEL": "llama",
    }
    process = await asyncio.create_subprocess_exec(
        python,
        str(FOLDER / script),
        env={**os.environ, **own},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def test_it_runs_unchanged(api: Api) -> None:
    await run(api, sys.executable, "litellm_script.py")


async def test_litellms_own_client_is_served(api: Api) -> None:
    environment = os.environ.get("ARRIERO_LITELLM")
    if environment is None:
        pytest.skip("ARRIERO_LITELLM names no environment of requirements/litellm.txt")
    await run(api, f"{environment}/bin/python", "litellm_client.py")
