"""LiteLLM's own client and its types of answers, against a gateway: run by LiteLLM's Python."""

import os
from importlib import import_module

# By name, because the environment of the tests does not have them.
types = import_module("litellm.proxy._types")
keys = import_module("litellm.proxy.client.keys")

client = keys.KeysManagementClient(os.environ["PROXY_BASE_URL"], os.environ["LITELLM_MASTER_KEY"])
made = client.generate(
    models=["llama"],
    aliases={},
    spend=0,
    duration="24h",
    key_alias="client",
    team_id="t",
    user_id="u",
    config={},
)
assert types.GenerateKeyResponse(**made).key_alias == "client"
info = client.info(made["token"])["info"]
assert types.LiteLLM_VerificationToken(**info).team_id == "t"
(listed,) = client.list(
    page=1, size=5, team_id="t", include_team_keys=True, return_full_object=True
)["keys"]
assert types.UserAPIKeyAuth(**listed).user_id == "u"
assert client.list()["keys"] == [made["token"]]
assert client.update(made["key"], models=["x"], duration="1h", spend=0.0)["models"] == ["x"]
assert client.delete(keys=[made["key"]]) == {"deleted_keys": [made["key"]]}
