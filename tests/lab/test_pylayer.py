from lab.paths import REPOSITORY
from lab.pylayer import for_target

LOCK = """\
# made by a program
aiohttp==3.14.5 \\
    --hash=sha256:aa \\
    --hash=sha256:ab
    # via -r requirements/x.in
async-timeout==5.0.1 ; python_full_version < '3.11.3' \\
    --hash=sha256:ba
    # via redis
soupsieve==2.10 ; python_full_version < '3.11.5' \\
    --hash=sha256:ca
soupsieve==4.1.2 ; python_full_version >= '3.11.5' \\
    --hash=sha256:da
httpx[http2]==1.0 ; python_full_version >= '3.12' and sys_platform == 'emscripten' \\
    --hash=sha256:ea
colorama==0.4.6 ; sys_platform == 'win32'
zstd==1
"""


def test_markers_are_asked_for_debians_python() -> None:
    kept = for_target(LOCK)
    assert "async-timeout==5.0.1 \\\n    --hash=sha256:ba" in kept
    assert "soupsieve==2.10 \\\n" in kept
    for gone in ("soupsieve==4", "sha256:da", "httpx", "colorama", " ; "):
        assert gone not in kept
    assert "aiohttp==3.14.5 \\\n    --hash=sha256:aa \\\n    --hash=sha256:ab\n" in kept
    assert kept.endswith("zstd==1\n")


def test_no_marker_of_a_real_lock_is_left() -> None:
    for lock in (REPOSITORY / "requirements").glob("*.txt"):
        kept = for_target(lock.read_text())
        assert " ; " not in kept, lock.name
        assert kept.count("==") > 0
