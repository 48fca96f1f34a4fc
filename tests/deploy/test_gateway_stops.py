"""The playbook on a host where much is wrong: all of it is told at once, and nothing is changed."""

from pathlib import Path

from tests.deploy.playing import Player

NOBODY = "http://127.0.0.1:1"


def inventory(folder: Path, vault: str) -> Path:
    """Make an inventory whose host is this machine; without root nothing could be changed."""
    variables = folder / "inventory" / "group_vars" / "all"
    variables.mkdir(parents=True)
    (variables / "vault.yml").write_text(vault)
    main = Path(__file__).parents[2] / "deploy/ansible/group_vars/all/main.yml"
    (variables / "main.yml").symlink_to(main)
    hosts = folder / "inventory" / "hosts.ini"
    hosts.write_text("[litellm]\nhx-api-server ansible_connection=local ansible_become=false\n")
    return hosts


def test_everything_is_told_at_once_and_the_key_is_not(player: Player, tmp_path: Path) -> None:
    hosts = inventory(tmp_path, "litellm_master_key: sk-short-key\n")
    played = player.play(
        "litellm_enforce",
        "-t",
        "critical,high",
        inventory=str(hosts),
        gateway_engine="litellm",
        litellm_version="1.82.8",
        gateway_wheelhouse=str(tmp_path / "nothing"),
        gateway_python="python-of-nobody",
        litellm_backends=[NOBODY],
        hx_litellm_proxy_config_dir=str(tmp_path / "etc"),
    )
    assert played.failed == 1
    assert played.changed == 0
    assert "NO-GO, nothing was changed." in played.output
    for told in (
        "engine: found LiteLLM 1.82.8, a compromised release",
        "wheelhouse: found no release at",
        "mend: scripts/wheelhouse --engine litellm",
        "vault: found plain text",
        "master key: found 12 characters",
        "Python: found not installed",
        f"backend {NOBODY}: found [Errno 111] Connection refused",
    ):
        assert told in played.output, played.output
    assert "sk-short-key" not in played.output
    assert not (tmp_path / "etc").exists()


def test_a_vault_that_the_password_does_not_open_stops(player: Player, tmp_path: Path) -> None:
    hosts = inventory(tmp_path, "litellm_master_key: sk-0123456789abcdef0123456789abcdef\n")
    vault = hosts.parent / "group_vars/all/vault.yml"
    player.tool("ansible-vault", "encrypt", str(vault))
    (player.folder / "password").write_text("another\n")
    played = player.play("litellm_enforce", inventory=str(hosts))
    assert played.rc != 0
    assert "Decryption failed" in played.output
    assert "ok=" not in played.output
